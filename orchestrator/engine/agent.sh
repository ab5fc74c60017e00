# agent.sh: process 1 of every container. Runs tests one at a time, ends what they leave, reports each with an
# end record that only it can write. POSIX sh only (dash, ash, bash), builtins wherever a fork can be saved.
#
#   sh -c "$(cat agent.sh)" orch-agent PLACE     PLACE: a folder with the FIFOs in, out, err; or -: fds 0, 1, 2
#
# From orch, for each test: a line with a secret nonce, lines of shell that end in a call of orch_test, and the
# nonce once more. Before that call there may be one of orch_server, and a request= for what it has started. To orch, on the out stream, each mark being a line "NONCE WORD" of its own after a newline:
#   begin, what the kernel holds us to and counters before, run, <the test's stdout>, end, the record, tar, <archive of the outputs>,
#   reset, what could not be emptied, over
# and on the err stream: <the test's stderr>, end. End of input: the container is no longer wanted.
# shellcheck disable=SC2329 # the functions are called by what orch sends
umask 022
unset nonce # an image's variable of this name would be exported, with our secret in it
if [ "$1" = - ]; then exec 7<&0 8>&1 9>&2; else exec 7<"$1/in" 8>"$1/out" 9>"$1/err"; fi
exec </dev/null >/dev/null 2>&1
cd / || exit 125
server_pids='' request=

newline='
'

# What the kernel holds this container to, as lines "key value"; read once, in no test's time; no fork.
held=
for file in $ORCH_LIMITS; do
    [ -r "$file" ] && IFS= read -r text <"$file" && held="$held${file##*/} $text
"
done
while read -r key text; do
    case $key in CapEff: | CapBnd: | NoNewPrivs: | Seccomp:) held="$held${key%:} $text
" ;; esac
done </proc/self/status

mark() { printf '\n%s %s\n' "$nonce" "$1"; }

# Adds the kernel's counters to $record; no fork.
counters() {
    for file in $ORCH_COUNTERS; do
        [ -r "$file" ] || continue
        record="$record@$file
"
        while IFS= read -r text; do
            record="$record$text
"
        done <"$file"
    done
}

# Sets $live to the processes besides this one and the server's that are not zombies.
find_live() {
    live=
    for entry in /proc/[0-9]*; do
        pid=${entry#/proc/}
        case " 1 $server_pids " in *" $pid "*) continue ;; esac
        while read -r key value _; do
            [ "$key" = State: ] || continue
            [ "$value" = Z ] || [ "$value" = X ] || live="$live $pid"
            break
        done <"$entry/status"
    done
}

# Runs what needs a fork although there may be none to be had, because leftovers fill the pids limit. A failed
# fork ends dash and ash, save in an eval that is called by `command`. The child must not fork in its turn: its
# failure would end up here too, and go on as a second agent.
try() { command eval "$1"; }

# Adds to $record what still lives 100 ms after its test (before that it may be on its way out), and ends it.
end_leftovers() {
    find_live
    [ -n "$live" ] && try 'sleep 0.05' && find_live
    [ -n "$live" ] && try 'sleep 0.05' && find_live
    [ -n "$live" ] || return 0
    count=0
    for pid in $live; do
        [ "$count" -lt 100 ] || break
        count=$((count + 1)) line=
        # shellcheck disable=SC2016 # expanded by eval
        { try 'line=$(exec tr "\000\n\r" "   ")'; } <"/proc/$pid/cmdline"
        # shellcheck disable=SC2016
        [ "${#line}" -le 500 ] || try 'line=$(printf %.500s "$line")' || line=
        [ -n "$line" ] || read -r line <"/proc/$pid/comm" || line='?'
        record="${record}leftover $pid $line
"
    done
    tries=0
    while [ -n "$live" ] && [ "$tries" -lt 100 ]; do
        kill -KILL -1
        jobs # reaps without a fork: the dead count against the pids limit until then
        [ "$tries" = 0 ] || try 'sleep 0.02'
        find_live
        tries=$((tries + 1))
    done
    [ -z "$live" ] || dirty processes
}

# Adds to $record how many entries a writable place holds, and the first names, up to a newline: what follows
# one could pretend to be a line of the record. Adds the place to $filled. No fork.
list_place() {
    place=$1 total=0 shown=0
    for pattern in '*' '.[!.]*' '..?*'; do
        # shellcheck disable=SC2086 # to be expanded
        set -- "$place"/$pattern
        if [ ! -e "$1" ] && [ ! -L "$1" ]; then continue; fi
        total=$((total + $#))
        for entry do
            [ "$shown" -lt 5 ] || break
            shown=$((shown + 1)) entry=${entry#"$place/"}
            record="${record}name $place ${entry%%"$newline"*}
"
        done
    done
    [ "$total" != 0 ] || return 0
    filled="$filled $place"
    record="${record}left $place $total
"
}

# Adds to $record the System V objects and the message queues that are there, to $ipc_places where; no fork.
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
    for place in /tmp /dev/shm "$ORCH_OUTPUT_DIR"; do list_place "$place"; done
    list_ipc
    [ -n "$filled" ] || return 0
    text=
    # shellcheck disable=SC2016 # expanded by eval
    try 'text=$(exec stat -f -c "space %n %b %f %c %d %S" $filled)'
    record="$record$text
"
}

dirty() {
    record="${record}dirty $1
"
}

# Empties the writable places for the next test, and notes which could not be.
reset_places() {
    for place in /tmp /dev/shm "$ORCH_OUTPUT_DIR"; do
        set -- "$place"/* "$place"/.[!.]* "$place"/..?*
        rm -rf "$@"
        for entry in "$place"/* "$place"/.[!.]* "$place"/..?*; do
            if [ -e "$entry" ] || [ -L "$entry" ]; then dirty "$place" && break; fi
        done
    done
    for table in $ipc_places; do dirty "$table"; done # nobody is there to have removed it since
}

# orch_server FOLDER NAME=VALUE... -- COMMAND...   starts what tests are forked from, in place of one that there is:
# requests come to it on fd 0, answers go out on fd 1; see preload_server.py
orch_server() {
    if [ -n "$server_pids" ]; then kill -KILL -1; jobs; fi
    server_pids='' folder=$1
    shift
    mkfifo /tmp/.orch-ask /tmp/.orch-answer || return
    # opened for both directions nobody waits; that the answers' other end is the server's alone makes its end seen
    exec 5<>/tmp/.orch-ask 4<>/tmp/.orch-answer 6</tmp/.orch-answer
    rm -f /tmp/.orch-ask /tmp/.orch-answer
    (
        echo 500 >/proc/self/oom_score_adj
        cd "$folder" || exit 126
        # shellcheck disable=SC2163 # the word is NAME=VALUE
        while [ "$1" != -- ]; do export "$1"; shift; done
        shift
        unset ORCH_COUNTERS ORCH_LIMITS ORCH_OUTPUT_CAP
        exec "$@" <&5 >&4 4>&- 5>&- 6<&- 7<&-
    ) &
    server_pids=$!
    exec 4>&-
}

# Has the server run the test in $request, and sets $code; no fork. False: it has not, and why.
ask_server() {
    line=$request request=
    if [ -z "$line" ]; then return 1; fi
    if [ -z "$server_pids" ]; then launch='refused no server could be started'; return 1; fi
    printf '%s\n' "$line" >&5
    launch=forked
    if ! IFS= read -r line <&6; then server_pids='' code=137 && return 0; fi
    jobs # reaps what the test has left to us
    pids=${line%%:*}
    server_pids=${pids#* }
    if [ "${line%% *}" != exit ]; then launch="refused ${line#*: }"; return 1; fi
    code=${server_pids%% *} server_pids=${server_pids#* }
}

# orch_test last|keep FOLDER NAME=VALUE... -- COMMAND...
orch_test() {
    keep=$1 folder=$2 record=$held
    shift 2
    counters
    { mark begin; printf '%s' "$record"; mark run; } >&8
    launch=process
    # In the foreground: a shell lets its background children ignore SIGINT. The memory killer takes the test
    # before the agent, which lives to tell.
    ask_server || {
        (
            echo 1000 >/proc/self/oom_score_adj
            cd "$folder" || { echo "orch: cannot enter $folder" >&9; exit 126; }
            # shellcheck disable=SC2163 # the word is NAME=VALUE
            while [ "$1" != -- ]; do export "$1"; shift; done
            shift
            unset ORCH_COUNTERS ORCH_LIMITS ORCH_OUTPUT_CAP
            exec "$@" >&8 2>&9 5>&- 6<&- 7<&- 8>&- 9>&-
        )
        code=$?
    }
    record="code $code
launch $launch
"
    end_leftovers
    head=$record record=
    counters # before the listing, which is no work of the test
    tail=$record record=$head
    list_left
    record=$record$tail
    mark end >&9
    { mark end; printf '%s' "$record"; mark tar; } >&8
    for entry in "$ORCH_OUTPUT_DIR"/* "$ORCH_OUTPUT_DIR"/.[!.]* "$ORCH_OUTPUT_DIR"/..?*; do
        if [ -e "$entry" ] || [ -L "$entry" ]; then
            # the cap holds against files with holes, which are larger than their place
            tar -C "$ORCH_OUTPUT_DIR" -cf - . | head -c "$ORCH_OUTPUT_CAP" >&8
            break
        fi
    done
    record=
    if [ "$keep" = keep ]; then reset_places; fi
    { mark reset; printf '%s' "$record"; mark over; } >&8
    [ "$keep" = keep ] || exit "$code"
}

printf '\norch-agent ready\n' >&8
while IFS= read -r nonce <&7; do
    script=
    while IFS= read -r text <&7 && [ "$text" != "$nonce" ]; do
        script="$script$text
"
    done
    eval "$script"
done
exit 0
