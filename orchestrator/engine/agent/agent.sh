# agent.sh is process 1 of every container. It runs tests one at a time, ends the processes that they leave, and writes
# an end record for each, which no other process can write. It is for POSIX shells (dash, ash, bash), and uses builtins
# instead of programs where possible, because they need no fork. It reads few bytes by `read`, which takes one system
# call for each. docs/design/engine/reused-slots.md has the cost of each step.
#
#   /.orch/sh -c "$(cat agent.sh)" orch-agent PLACE     PLACE: a folder with the FIFOs in, out, err; or -: fds 0, 1, 2
#
# Tests run as the same user, who may execute that shell but not read its file. So the kernel denies other processes
# access to this one's memory, descriptors and environment (docs/design/engine/images.md). A forked process is also
# protected, until it executes a program, which can be accessed again. So a program gets none of these descriptors: 3 is
# oom_score_adj of this process, opened before this shell, which may not open it; 5 and 6 belong to the server; 7 has
# the orders, 8 and 9 the streams.
#
# An order is the shell lines of one test, which end in a call of orch_test. With a folder, they are in a file of it,
# and the input has a line "NONCE FILE", which may arrive while the previous test runs, and "go" after a cleaning.
# Without a folder, the input has a line with the nonce, the lines, and the nonce again. Any other line ends the
# container.
# The out stream has these sections, separated by marks, each of which is a newline and a line "NONCE WORD":
#   (begin, limits and counters before the test, (ready, "go" from orch,) run,) <the test's stdout>, end, code and
#   counters, rest, what the test left, tar, <archive of the outputs>, reset, what could not be emptied, over
# `begin` to `run` are written for a first test or a preparation by a server, `ready` for the latter only. The err
# stream has <the test's stderr>, end. The end of the input means that the container is not needed any more.
# shellcheck disable=SC2329 # the functions are called by what orch sends
umask 022
# Process 1 receives only the signals of a test for which it has a handler: dash has one for INT, and would end. Tests
# get the default handler back (`launch`).
trap '' INT
unset nonce # an image's variable of this name would be exported, with the secret value
place=$1
# `kill -1` signals all processes, which must be this container's, and not this user's on the whole machine.
[ "$$" = 1 ] || exit 125
if [ "$place" = - ]; then exec 7<&0 8>&1 9>&2; else exec 7<"$place/in" 8>"$place/out" 9>"$place/err"; fi
exec </dev/null >/dev/null 2>&1
cd / || exit 125
# The pids of the processes that tests are forked from, the request to them for the next test, and whether they have to
# prepare for it.
server='' request='' prepare=''
# The writable places that belong to the tests' user, their modes in octal, and the modes as builtins can test them.
own_places='' modes='' first_seen=unknown

newline='
'
# The places where tests may write. Their names contain no blanks.
writable="/tmp /dev/shm $ORCH_OUTPUT_DIR"
# The result of their patterns while they are empty: a pattern without a match stays unchanged.
# shellcheck disable=SC2086
set -- /dev/mqueue/* /dev/mqueue/.*
for folder in $writable; do set -- "$@" "$folder"/* "$folder"/.*; done
nothing=$*
sysv=
[ -r /proc/sysvipc/msg ] && sysv=yes

# The limits in effect for this container, as lines "key value"; read once, before any test; no fork.
held=
for file in $ORCH_LIMITS; do
    [ -r "$file" ] && IFS= read -r text <"$file" && held="$held${file##*/} $text
"
done
while read -r key text; do
    case $key in CapEff: | CapBnd: | NoNewPrivs: | Seccomp:) held="$held${key%:} $text
" ;; esac
done </proc/self/status
set -- /dev/*
held="${held}dev $*
"
# With FIFOs, orch reads mounts and limits itself; here each byte takes a system call.
if [ "$place" = - ]; then
    while IFS= read -r text; do held="${held}mount $text
"; done </proc/self/mountinfo
    while IFS= read -r text; do
        held="${held}limit $text
"
        case $text in "Max open files"*) break ;; esac
    done </proc/self/limits
fi
# Whether other processes of this user can read this process.
if [ -r /proc/self/environ ] || [ -r /proc/self/mem ]; then text=yes; else text=no; fi
held="${held}Readable $text
"

# Sets $files to the arguments that are readable files.
readable() {
    files=
    for file do
        if [ -r "$file" ]; then files="$files $file"; fi
    done
}
# shellcheck disable=SC2086
readable $ORCH_COUNTERS
all_counters=$files
# shellcheck disable=SC2086
readable $ORCH_NEXT_COUNTERS
next_counters=$files

# Some busybox builds start their own applets from the running file, which here is the agent's: such a test could not
# access its own /proc files. So applets are started by the ordinary file of busybox.
applets=
if [ "$(command -v tr)" = tr ]; then
    IFS=:
    for folder in $PATH; do
        if [ -r "$folder/busybox" ]; then applets=$folder/busybox && break; fi
    done
    unset IFS
fi
is_applet() {
    case $1 in */*) return 1 ;; esac
    [ -n "$applets" ] && [ "$(command -v "$1")" = "$1" ]
}

mark() { printf '\n%s %s\n' "$nonce" "$1"; }

# Adds the kernel's counters in the files $1 to $record; no fork.
counters() {
    for file in $1; do
        record="$record@$file
"
        while IFS= read -r text; do
            record="$record$text
"
        done <"$file"
    done
}

# Sets $live to the processes besides this one and the server's that are not zombies, and $hindered if one of them
# waits for a CPU or a disk (or runs just now).
find_live() {
    live='' hindered=''
    for entry in /proc/[0-9]*; do
        pid=${entry#/proc/}
        case " 1 $server " in *" $pid "*) continue ;; esac
        while read -r key value _; do
            [ "$key" = State: ] || continue
            case $value in
                Z | X) ;;
                R | D) live="$live $pid" hindered=yes ;;
                *) live="$live $pid" ;;
            esac
            break
        done <"$entry/status"
    done
}

# Does the same as find_live, and also finds a process that forks and ends again and again: its pid always changes, so a
# pass through the list may miss it. While all processes are stopped, none can fork or end.
find_all_live() {
    find_live
    if [ -n "$live" ] || ! kill -STOP -1; then return 0; fi # kill fails if there is no process
    find_live
    kill -CONT -1
}

# Runs a command that needs a fork, which may fail because leftovers fill the pids limit. A failed fork ends dash and
# ash, except in an eval that is called by `command`. The child must not fork: if that failed, the child would return
# from here and continue as a second agent.
try() { command eval "$1"; }

# Runs a program that is not a test, without the agent's descriptors, which leftovers of a test could open.
helper() { "$@" 3>&- 5>&- 6<&- 7<&- 8>&- 9>&-; }

# Waits for the processes $live to end, until they could have run for 200 ms, which may take longer on a busy machine
# (at most 60 checks, 3 s). Time in which they waited for a CPU, as the kernel counts it, is excluded.
grace() {
    could=0 looks=0 known='' up=0.00
    read -r up _ </proc/uptime
    then=$up pause=0.02
    while [ -n "$live" ] && [ "$could" -lt 200 ] && [ "$looks" -lt 60 ]; do
        try "helper sleep $pause"
        find_all_live
        looks=$((looks + 1)) pause=0.05 ran=0 waited=0 grown=0 late=0
        for pid in $live; do
            run=0 delay=0
            read -r run delay _ <"/proc/$pid/schedstat" || continue # nanoseconds: has run, has waited for a CPU
            case $known in *" $pid "*)
                eval "grown=\$(((run - run_$pid) / 1000000)) late=\$(((delay - delay_$pid) / 1000000))"
                ran=$((ran + grown))
                [ "$late" -le "$waited" ] || waited=$late
                ;;
            esac
            known="$known $pid "
            eval "run_$pid=$run delay_$pid=$delay"
        done
        read -r up _ </proc/uptime # seconds and hundredths; a 1 before these, because 08 is no number
        passed=$(((${up%.*} - ${then%.*}) * 1000 + (1${up#*.} - 1${then#*.}) * 10)) then=$up
        if [ -z "$hindered" ]; then
            ran=$((passed - waited))
        elif [ "$ran" -gt "$passed" ]; then
            ran=$passed
        fi
        [ "$ran" -lt 0 ] || could=$((could + ran))
    done
}

# Sets $line to the command line of process $pid. Returns false if the process is ending and has no memory any more.
name_process() {
    line=
    # shellcheck disable=SC2016 # expanded by eval
    { try 'line=$(exec tr "\000\n\r" "   " 3>&- 5>&- 6<&- 7<&- 8>&- 9>&-)'; } <"/proc/$pid/cmdline"
    # shellcheck disable=SC2016
    [ "${#line}" -le 500 ] || try 'line=$(printf %.500s "$line")' || line=
    [ -z "$line" ] || return 0
    while read -r key _; do
        [ "$key" = VmSize: ] || continue
        read -r line <"/proc/$pid/comm"
        return
    done <"/proc/$pid/status"
    return 1
}

# Adds to $record the processes that still run after the grace time, and kills them.
end_leftovers() {
    find_all_live
    [ -n "$live" ] || return 0
    grace
    [ -n "$live" ] || return 0
    kill -STOP -1 # so that each process still exists when its name is read
    find_live
    count=0
    for pid in $live; do
        [ "$count" -lt 100 ] || break
        name_process || continue
        count=$((count + 1))
        record="${record}leftover $pid $line
"
    done
    tries=0
    while [ -n "$live" ] && [ "$tries" -lt 100 ]; do
        if [ "$count" = 0 ]; then kill -CONT -1; else kill -KILL -1; fi # also the server
        jobs # reaps without a fork: the dead count against the pids limit until then
        [ "$tries" = 0 ] || try 'helper sleep 0.02'
        find_live
        tries=$((tries + 1))
    done
    [ -z "$live" ] || dirty processes
}

# Adds to $record the number of entries of the writable place $folder and the first names, up to a newline: text after
# it could imitate a line of the record. Adds the place to $filled. No fork.
list_place() {
    total=0 shown=0
    for pattern in '*' '.[!.]*' '..?*'; do
        # shellcheck disable=SC2086 # to be expanded
        set -- "$folder"/$pattern
        if [ ! -e "$1" ] && [ ! -L "$1" ]; then continue; fi
        total=$((total + $#))
        for entry do
            [ "$shown" -lt 5 ] || break
            shown=$((shown + 1)) entry=${entry#"$folder/"}
            record="${record}name $folder ${entry%%"$newline"*}
"
        done
    done
    [ "$total" != 0 ] || return 0
    filled="$filled $folder"
    record="${record}left $folder $total
"
}

# Notes the modes of the writable places that the tests' user could change. One fork, before the first test of several.
note_modes() {
    for spot in $writable; do
        # shellcheck disable=SC3067 # dash, ash and bash have it
        if [ -O "$spot" ]; then own_places="$own_places $spot"; fi
    done
    # shellcheck disable=SC2016 # expanded by eval
    [ -z "$own_places" ] || try 'modes=$(exec stat -c %n=%a $own_places 3>&- 5>&- 6<&- 7<&- 8>&- 9>&-)'
    see_modes
    first_seen=$seen
}

# Sets $seen to the bits of those modes that can be tested without a fork. If orch is root, it checks the others.
see_modes() {
    seen=
    for spot in $own_places; do
        seen="$seen $spot="
        [ -r "$spot" ] && seen=${seen}r
        [ -w "$spot" ] && seen=${seen}w
        [ -x "$spot" ] && seen=${seen}x
        # shellcheck disable=SC3065 # as above
        [ -k "$spot" ] && seen=${seen}t
        [ -g "$spot" ] && seen=${seen}g
        [ -u "$spot" ] && seen=${seen}u
    done
}

# Returns true if the modes are the same as before the first test.
has_modes() {
    [ -n "$own_places" ] || return 0
    see_modes
    [ "$seen" = "$first_seen" ]
}

# Restores the modes of the places, so that their contents can be listed and removed, and adds to $record the places
# whose modes had changed. Returns false if the modes could not be restored.
restore_modes() {
    if has_modes; then return 0; fi
    changed=
    for entry in $seen; do
        case " $first_seen " in *" $entry "*) ;; *) changed="$changed ${entry%=*}" ;; esac
    done
    record="${record}modes$changed
"
    for entry in $modes; do
        case "$changed " in *" ${entry%=*} "*) try "helper chmod ${entry##*=} ${entry%=*}" ;; esac
    done
    if has_modes; then return 0; fi
    dirty modes
    return 1
}

# Returns true if the writable places are empty and no System V object exists; no fork, and no listing.
is_empty() {
    # shellcheck disable=SC2086
    set -- /dev/mqueue/* /dev/mqueue/.*
    for folder in $writable; do set -- "$@" "$folder"/* "$folder"/.*; done
    [ "$*" = "$nothing" ] || return 1
    for folder in /dev/mqueue $writable; do
        [ ! -e "$folder/*" ] || return 1 # a file with the name *
    done
    # A table that is run as a script is read at once, and not byte by byte. Its first line calls `key`. Each later line
    # starts with a number, which is a command that does not exist.
    [ -z "$sysv" ] || {
        saved=$PATH
        # shellcheck disable=SC2123 # no command must be found
        PATH=/dev/null
        . /proc/sysvipc/shm && . /proc/sysvipc/sem && . /proc/sysvipc/msg
        tables=$?
        PATH=$saved
        return "$tables"
    }
}
key() { :; }

# Adds to $record the System V objects and message queues that exist, and to $ipc_places their places; no fork.
list_ipc() {
    count=0 ipc_places=
    for table in shm sem msg; do
        while read -r key id _ amount _; do
            if [ "$key" = key ] || [ "$count" -ge 100 ]; then continue; fi
            count=$((count + 1))
            ipc_places="${ipc_places% /proc/sysvipc/"$table"} /proc/sysvipc/$table"
            record="${record}ipc $table $id $amount
"
        done <"/proc/sysvipc/$table"
    done
    for entry in /dev/mqueue/*; do
        if [ ! -e "$entry" ] || [ "$count" -ge 100 ]; then break; fi
        count=$((count + 1)) entry=${entry#/dev/mqueue/}
        ipc_places="${ipc_places% /dev/mqueue} /dev/mqueue"
        record="${record}ipc mqueue ${entry%%"$newline"*}
"
    done
}

# Adds to $record the files and IPC objects that the test left. If there are files, one fork reads how full their places
# are.
list_left() {
    filled=
    for folder in $writable; do list_place; done
    list_ipc
    [ -n "$filled" ] || return 0
    text=
    if [ -n "$server" ]; then
        printf 'space%s\n' "$filled" >&5
        for folder in $filled; do IFS= read -r line <&6 && text="$text$line$newline"; done
    else
        # shellcheck disable=SC2016 # expanded by eval
        try 'text=$(exec stat -f -c "space %n %b %f %c %d %S" $filled 3>&- 5>&- 6<&- 7<&- 8>&- 9>&-)'
    fi
    record="$record$text
"
}

# Makes the server do a task for which programs would have to be started: `list CAP FOLDER` and `pack CAP FOLDER`, which
# write to stdout, and `empty FOLDER...`. Returns false if there is no server, or it failed.
chore() {
    [ -n "$server" ] || return 1
    printf '%s\n' "$*" >&5
    IFS= read -r line <&6 && [ "$line" = "done" ]
}

# Writes the names of all outputs except folders, a line "//", and the names of the files that are larger than the cap;
# then the mark and the archive. Files that their owner may not read are made readable. Files larger than the cap are
# not packed, and if there are some, small files are packed first. The archive is cut at the cap; orch finds the missing
# files by the names.
send_outputs() {
    large=
    for entry in "$ORCH_OUTPUT_DIR"/* "$ORCH_OUTPUT_DIR"/.[!.]* "$ORCH_OUTPUT_DIR"/..?*; do
        if [ ! -e "$entry" ] && [ ! -L "$entry" ]; then continue; fi
        if chore list "$ORCH_OUTPUT_CAP" "$ORCH_OUTPUT_DIR"; then
            printf '\n%s tar\n' "$nonce" >&8
            chore pack "$ORCH_OUTPUT_CAP" "$ORCH_OUTPUT_DIR"
            return
        fi
        (
            cd "$ORCH_OUTPUT_DIR" || exit
            helper find . -type d \( -perm -0500 -o -exec chmod u+rwx {} \; \) \
                -o -type f \( -perm -0400 -o -exec chmod u+r {} \; \) -print -o ! -type d -print
        ) | head -c 262144 3>&- 5>&- 6<&- 7<&- >&8 8>&- 9>&-
        large=$(cd "$ORCH_OUTPUT_DIR" && helper find . -type f -size "+${ORCH_OUTPUT_CAP}c" | helper head -c 65536)
        printf '\n//\n%s\n\n%s tar\n' "$large" "$nonce" >&8
        case $large in
            '') helper tar -C "$ORCH_OUTPUT_DIR" -cf - . ;;
            *) pack_small_first ;;
        esac | head -c "$ORCH_OUTPUT_CAP" 3>&- 5>&- 6<&- 7<&- >&8 8>&- 9>&-
        return
    done
    printf '\n%s tar\n' "$nonce" >&8
}
pack_small_first() {
    cd "$ORCH_OUTPUT_DIR" || return
    helper find . -type f ! -size +1048576c -exec tar -cf - {} +
    helper find . -type f -size +1048576c ! -size "+${ORCH_OUTPUT_CAP}c" -exec tar -cf - {} +
}

dirty() {
    record="${record}dirty $1
"
}

# Empties the writable places for the next test, and adds to $record those that could not be emptied.
reset_places() {
    # shellcheck disable=SC2086
    if chore empty $filled && is_empty; then return 0; fi
    for folder in $filled; do
        set -- "$folder"/* "$folder"/.[!.]* "$folder"/..?*
        helper rm -rf "$@"
    done
    if is_empty; then return 0; fi
    list_left
    record=
    for folder in $filled $ipc_places; do dirty "$folder"; done # the shell cannot remove System V objects
}

# Starts the test in the foreground, because a shell makes its background children ignore SIGINT. The OOM killer must
# choose the test before the agent: the test inherits the agent's raised score, then resets that of the agent.
launch() {
    echo 1000 >&3
    (
        echo 0 >&3
        trap - INT
        cd "$folder" || { echo "orch: cannot enter $folder" >&9; exit 126; }
        environment
        own
        unset ORCH_COUNTERS ORCH_NEXT_COUNTERS ORCH_LIMITS ORCH_OUTPUT_CAP
        if is_applet "$1"; then set -- "$applets" "$@"; fi
        # opened again: flags such as O_NONBLOCK, and locks, belong to an open file, and would remain for the next test
        [ "$place" = - ] || exec >/proc/self/fd/8 2>/proc/self/fd/9 8>&1 9>&2
        exec "$@" >&8 2>&9 3>&- 5>&- 6<&- 7<&- 8>&- 9>&-
    )
    code=$?
}

# orch_server FOLDER COMMAND...    Comes after `environment`. Starts the server that tests are forked from, in place of
# an earlier one. It reads requests on fd 0 and answers on fd 1 (preload_server.py). A line request=... of an order is
# the request for its test.
orch_server() {
    if [ -n "$server" ]; then kill -KILL -1; jobs; fi
    server='' folder=$1
    shift
    helper mkfifo /tmp/.orch-ask /tmp/.orch-answer || return
    # To open a FIFO for both directions does not block. In the end only the server has the answers open for writing, so
    # that its end is noticed.
    exec 5<>/tmp/.orch-ask 4<>/tmp/.orch-answer 6</tmp/.orch-answer
    helper rm -f /tmp/.orch-ask /tmp/.orch-answer
    echo 500 >&3
    (
        echo 0 >&3
        cd "$folder" || exit 126
        environment
        unset ORCH_COUNTERS ORCH_NEXT_COUNTERS ORCH_LIMITS ORCH_OUTPUT_CAP
        exec "$@" <&5 >&4 3>&- 4>&- 5>&- 6<&- 7<&-
    ) &
    server=$!
    exec 4>&-
}

# Makes the server prepare the test that $request describes, so that the cost is not charged to the test; no fork. If
# the server cannot, $request is empty afterwards and $how has the reason.
prepare_server() {
    [ -n "$server" ] || return 0
    printf 'prepare %s\n' "$request" >&5
    if ! IFS= read -r line <&6; then server='' && return 0; fi
    jobs
    server=${line%%:*}
    server=${server#* }
    if [ "${line%% *}" != ready ]; then request='' how=" refused ${line#*: }"; fi
}

# Makes the server run the test that $request describes, and sets $code; no fork. Returns false if the test was not run;
# $how then has the reason.
ask_server() {
    [ -n "$request" ] || return 1
    line=$request request='' how=' refused no server could be started'
    [ -n "$server" ] || return 1
    printf '%s\n' "$line" >&5
    how=' forked' code=137
    # Orphans of the test must be reaped here, or they fill the pids limit when they have ended. A shell reaps while it
    # waits for a child, but not while it reads; a signal with a trap ends the read.
    trap : CHLD
    until IFS= read -r line <&6; do
        if serves; then continue; fi
        trap - CHLD
        server=''
        return 0
    done
    trap - CHLD
    jobs
    server=${line%%:*}
    server=${server#* }
    if [ "${line%% *}" != exit ]; then how=" refused ${line#*: }" && return 1; fi
    code=${server%% *} server=${server#* }
}

# Reaps ended children. Returns true if there is no server, or it has not ended.
serves() {
    jobs
    [ -z "$server" ] || [ -d "/proc/${server%% *}" ]
}

# Waits for "go" from orch in three cases: when a server is ready, until orch has read its memory; after a cleaning,
# until orch has reset the memory peak, which includes the removed files; and before the container ends, until orch has
# read its counters. The next order may come before "go".
await_go() {
    while read -r word text <&7; do
        if [ "$word$text" = go ]; then return 0; fi
        expect_order "$word" "$text"
        order_nonce=$word order=$text
    done
    return 1
}

# Ends the container if the line is not an order of orch: then another process has written it.
expect_order() {
    case $1 in *[!0-9a-f]*) exit 125 ;; esac
    case ${#1}$2 in 24a | 24b) ;; *) exit 125 ;; esac
}

# orch_test first|next last|keep FOLDER COMMAND...    Comes after `environment` and `own`, which export the test's
# variables. With `next`, the counters before the test are those after the previous one, and are not read again.
orch_test() {
    turn=$1 keep=$2 folder=$3 record=$held measured=$next_counters how=''
    shift 3
    [ "$keep$first_seen" != keepunknown ] || note_modes
    [ "$turn" != first ] || measured=$all_counters
    if [ -n "$prepare" ]; then
        prepare=''
        prepare_server
        counters "$measured"
        printf '\n%s begin\n%s\n%s ready\n' "$nonce" "$record" "$nonce" >&8
        await_go || exit 0
        mark run >&8
    elif [ "$turn" = first ]; then
        counters "$measured"
        printf '\n%s begin\n%s\n%s run\n' "$nonce" "$record" "$nonce" >&8
    fi
    ask_server || launch "$@"
    record=
    end_leftovers
    if [ -n "$server" ] && [ -z "$record" ]; then
        # shellcheck disable=SC2086 # one word for each
        if serves; then kill -CONT $server; else dirty 'the process that tests are forked from, which has ended'; fi
    fi
    left=$record record="code $code${server:+ [$server]}$how
"
    counters "$measured" # before the listing, whose cost is not the test's
    mark end >&9
    if [ -z "$left" ] && has_modes && is_empty; then
        # in one write, so that the reader is woken once
        printf '\n%s end\n%s\n%s rest\n\n%s list\n\n%s tar\n\n%s reset\n\n%s over\n' \
            "$nonce" "$record" "$nonce" "$nonce" "$nonce" "$nonce" "$nonce" >&8
        if [ "$keep" = keep ] && [ "$code" = 0 ]; then return; fi
        leave
    fi
    printf '\n%s end\n%s\n%s rest\n' "$nonce" "$record" "$nonce" >&8
    record=$left
    restore_modes || left=$record
    list_left
    printf '%s\n%s list\n' "$record" "$nonce" >&8
    send_outputs
    record=
    if [ "$keep" = keep ] && [ "$code" = 0 ] && [ -z "$left" ]; then
        reset_places
        # the cost of the cleaning is not the next test's
        [ -n "$record" ] || counters "$measured"
        printf '\n%s reset\n%s\n%s over\n' "$nonce" "$record" "$nonce" >&8
        case $record in *dirty*) ;; *) await_go && return ;; esac
    else
        printf '\n%s reset\n\n%s over\n' "$nonce" "$nonce" >&8
    fi
    leave
}

# Ends the container. If it takes one test only, the agent has read all counters itself and does not wait for "go".
leave() {
    [ "$place" = - ] || [ "$turn $keep" = "first last" ] || await_go
    exit "$code"
}

printf '\norch-agent ready\n' >&8
next_order() {
    if [ -n "$order" ]; then
        nonce=$order_nonce file=$order order=''
    else
        read -r nonce file <&7 && expect_order "$nonce" "$file"
    fi
}
order=
if [ "$place" != - ]; then
    while next_order; do
        # shellcheck disable=SC1090
        . "$place/$file"
    done
    exit 0
fi
while IFS= read -r nonce <&7; do
    expect_order "$nonce" a
    script=
    while IFS= read -r text <&7 && [ "$text" != "$nonce" ]; do
        script="$script$text
"
    done
    eval "$script"
done
exit 0
