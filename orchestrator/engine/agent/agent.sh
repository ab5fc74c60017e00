# agent.sh: process 1 of every container. Runs tests one at a time, ends what they leave, reports each with an
# end record that only it can write. POSIX sh only (dash, ash, bash), builtins wherever a fork can be saved, and few
# bytes by `read`, which takes them one by one: docs/design/engine/reused-slots.md has what each step costs.
#
#   /.orch/sh -c "$(cat agent.sh)" orch-agent PLACE     PLACE: a folder with the FIFOs in, out, err; or -: fds 0, 1, 2
#
# Tests are the same user, who may run that shell and not read it: so the kernel lets no other process at this one's
# memory, descriptors and environment (docs/design/engine/images.md). A process that it forks is like it until it executes a
# program; what it executes can be read again, so that gets none of these descriptors: 3, oom_score_adj of this process,
# which only who may read it can open (hence before this shell); 5 and 6, the server's; 7 orders, 8 and 9 the streams.
#
# From orch, for each test, lines of shell that end in a call of orch_test. With a folder they stand in a file of it,
# and the input has a line "NONCE FILE", which may be there while the test before it runs (and "go" after a cleaning);
# else the input has a line with the nonce, the lines, and the nonce once more. Any other line ends the container.
# To orch, on the out stream, each mark being a line "NONCE WORD" of its own after a newline:
#   (first only, or where a server had to get ready: begin, what the kernel holds us to and counters before, (a server
#   only: ready, and orch answers "go",) run,) <the test's stdout>, end, code and counters, rest, what the test left,
#   tar, <archive of the outputs>, reset, what could not be emptied, over
# and on the err stream: <the test's stderr>, end. End of input: the container is no longer wanted.
# shellcheck disable=SC2329 # the functions are called by what orch sends
umask 022
# Of the signals that a test sends, process 1 gets those only that it has a handler for: dash has one for INT, and would
# end. Tests have it as ever (`launch`).
trap '' INT
unset nonce # an image's variable of this name would be exported, with our secret in it
place=$1
# What it signals as all others must be this container's processes, not this user's on the whole machine.
[ "$$" = 1 ] || exit 125
if [ "$place" = - ]; then exec 7<&0 8>&1 9>&2; else exec 7<"$place/in" 8>"$place/out" 9>"$place/err"; fi
exec </dev/null >/dev/null 2>&1
cd / || exit 125
server='' request='' prepare='' # processes that tests are forked from; what they are asked for the next test, and
# whether they have to get ready for it first
# Writable places that belong to the tests' user, their modes in octal, and what can be seen of these.
own_places='' modes='' first_seen=unknown

newline='
'
# Where tests may write. Names without a blank.
writable="/tmp /dev/shm $ORCH_OUTPUT_DIR"
# The expansion of their patterns while they are empty: a pattern without a match stays unchanged.
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
# On this machine orch reads mounts and limits itself, at once; here each byte takes a system call.
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

# A busybox may be built to start what is part of it from its own file, which here is the agent's: a test would be as
# closed as the agent, also to itself. Such a one has the test started by the ordinary file.
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

# As find_live, and also finds what forks and ends over and over: that has another number at each look, so one that goes
# through the list in order may never meet it. While all are stopped none can do either.
find_all_live() {
    find_live
    if [ -n "$live" ] || ! kill -STOP -1; then return 0; fi # false: there is nobody
    find_live
    kill -CONT -1
}

# Runs what needs a fork although there may be none to be had, because leftovers fill the pids limit. A failed
# fork ends dash and ash, save in an eval that is called by `command`. The child must not fork in its turn: its
# failure would end up here too, and go on as a second agent.
try() { command eval "$1"; }

# Runs a program that is no test; what is still alive of one could open its descriptors.
helper() { "$@" 3>&- 5>&- 6<&- 7<&- 8>&- 9>&-; }

# Waits for $live to end by itself: until it could have run for 200 ms, however long a busy machine takes to grant that
# (at most 60 looks, 3 s). What waits for a CPU, by the kernel's account of it, could not run.
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

# Sets $line to the command line of process $pid. False: it is about to end, its memory is gone already.
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
    kill -STOP -1 # so that it is still there under its number when it is named
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
        if [ "$count" = 0 ]; then kill -CONT -1; else kill -KILL -1; fi # the server too
        jobs # reaps without a fork: the dead count against the pids limit until then
        [ "$tries" = 0 ] || try 'helper sleep 0.02'
        find_live
        tries=$((tries + 1))
    done
    [ -z "$live" ] || dirty processes
}

# Adds to $record how many entries the writable place $folder holds, and the first names, up to a newline: what follows
# one could pretend to be a line of the record. Adds it to $filled. No fork.
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

# Sets $seen to what can be seen of those modes without a fork; orch sees the rest from outside, if it is root.
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

# True if the modes are the same as before the first test.
has_modes() {
    [ -n "$own_places" ] || return 0
    see_modes
    [ "$seen" = "$first_seen" ]
}

# Restores the modes of the places, so that their contents can be listed and removed, and adds to $record the places
# whose modes had changed. False if the modes could not be restored.
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

# True if the writable places hold nothing and nobody made a System V object; no fork, and no listing.
is_empty() {
    # shellcheck disable=SC2086
    set -- /dev/mqueue/* /dev/mqueue/.*
    for folder in $writable; do set -- "$@" "$folder"/* "$folder"/.*; done
    [ "$*" = "$nothing" ] || return 1
    for folder in /dev/mqueue $writable; do
        [ ! -e "$folder/*" ] || return 1 # a file of that name
    done
    # As a script, a table is read at once and not byte by byte: its head calls `key`, and each line below it, which
    # has only numbers, a command that does not exist.
    [ -z "$sysv" ] || {
        saved=$PATH
        # shellcheck disable=SC2123 # nothing shall be found
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

# Adds to $record what the test left besides processes. One fork, and only if it left files: how full their
# places are.
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

# Lets the server do a task for which programs would have to be started: `list CAP FOLDER` and `pack CAP FOLDER`, which
# write to stdout, and `empty FOLDER...`.
chore() {
    [ -n "$server" ] || return 1
    printf '%s\n' "$*" >&5
    IFS= read -r line <&6 && [ "$line" = "done" ]
}

# Writes the names of all that is in the outputs' folder but folders, a line "//", and the names of those that are larger
# than all that may come back, which have holes; then the mark and the archive. What its owner may not read is made
# readable. What is too large is not packed, and if there is such a file, small ones go first. Others are cut off, with
# what comes after them; orch tells by the names.
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
    for folder in $filled $ipc_places; do dirty "$folder"; done # nobody is there to remove what is in tables
}

# Starts the test in the foreground: a shell lets its background children ignore SIGINT. The memory killer takes
# the test before the agent, which lives to tell: the test inherits the agent's score, and sets back the agent's.
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
        # opened anew: flags such as O_NONBLOCK, and locks, belong to an open file, and would be the next test's too
        [ "$place" = - ] || exec >/proc/self/fd/8 2>/proc/self/fd/9 8>&1 9>&2
        exec "$@" >&8 2>&9 3>&- 5>&- 6<&- 7<&- 8>&- 9>&-
    )
    code=$?
}

# orch_server FOLDER COMMAND...    after `environment`: starts what tests are forked from, in place of one there is. It
# takes requests on fd 0 and answers on fd 1: preload_server.py. A line request=... asks it for the test that follows.
orch_server() {
    if [ -n "$server" ]; then kill -KILL -1; jobs; fi
    server='' folder=$1
    shift
    helper mkfifo /tmp/.orch-ask /tmp/.orch-answer || return
    # Opened for both directions nobody waits. The server is to be the only writer of answers, so that its end is seen.
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

# Has the server set up all that it needs for the test that $request describes, so that none of it is charged to the
# test; no fork. If it cannot, $request is empty then and $how says why.
prepare_server() {
    [ -n "$server" ] || return 0
    printf 'prepare %s\n' "$request" >&5
    if ! IFS= read -r line <&6; then server='' && return 0; fi
    jobs
    server=${line%%:*}
    server=${server#* }
    if [ "${line%% *}" != ready ]; then request='' how=" refused ${line#*: }"; fi
}

# Has the server run the test that $request describes, and sets $code; no fork. False: it has not; $how says why.
ask_server() {
    [ -n "$request" ] || return 1
    line=$request request='' how=' refused no server could be started'
    [ -n "$server" ] || return 1
    printf '%s\n' "$line" >&5
    how=' forked' code=137
    # What the test orphans is ours to reap, or the dead fill the pids limit: a shell does so while it waits for a child,
    # and not while it reads, which a signal with a trap ends.
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

# Reaps ended children. True if there is no server, or it has not ended.
serves() {
    jobs
    [ -z "$server" ] || [ -d "/proc/${server%% *}" ]
}

# Waits for orch's word: once a server is ready until what it has charged is known, after a cleaning until orch has set
# the memory peak back, which the cleaned files were part of, and before the end of a container whose counters orch
# reads from outside, which are gone with it. The next order may stand before that word.
await_go() {
    while read -r word text <&7; do
        if [ "$word$text" = go ]; then return 0; fi
        expect_order "$word" "$text"
        order_nonce=$word order=$text
    done
    return 1
}

# Ends the container if the line is not an order of orch, because another process has written it.
expect_order() {
    case $1 in *[!0-9a-f]*) exit 125 ;; esac
    case ${#1}$2 in 24a | 24b) ;; *) exit 125 ;; esac
}

# orch_test first|next last|keep FOLDER COMMAND...    after `environment` and `own`, which export what the test is told.
# `next`: the counters before are those after the test before; nothing is read twice.
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
    counters "$measured" # before the listing, which is no work of the test
    mark end >&9
    if [ -z "$left" ] && has_modes && is_empty; then
        # all at once: what reads it is woken once
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
        # what went into the cleaning is not the next test's
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
