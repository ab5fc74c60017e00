#!/bin/sh
# What is in a slot's cgroups before its first process has done anything, and after a container of `true`:
#   startup.sh [IMAGE] [RUNS]      needs docker, root, and an image with /bin/sh
# One line a run: the container's own cgroup as its shell sees it first (memory peak, pids peak, CPU in µs), then its
# parent's once the container is gone. Made for docs/design/engine/cgroups.md.
set -eu
image=${1:-orch/test-isolation:latest} runs=${2:-20}
driver=$(docker info -f '{{.CgroupDriver}}')
version=$(docker info -f '{{.CgroupVersion}}')
echo "# kernel $(uname -r), docker $(docker version -f '{{.Server.Version}}'), cgroup v$version, driver $driver"
echo "# own: memory_peak pids_peak cpu_usec   parent: memory_peak pids_peak cpu_usec"

if [ "$version" = 2 ]; then
    own='cat_first /sys/fs/cgroup/memory.peak; cat_first /sys/fs/cgroup/pids.peak; cat_first /sys/fs/cgroup/cpu.stat'
else
    own='cat_first /sys/fs/cgroup/memory/memory.max_usage_in_bytes; cat_first /sys/fs/cgroup/pids/pids.peak
         cat_first /sys/fs/cgroup/cpuacct/cpuacct.usage_us'
fi
# builtins only: a program would count itself
program="cat_first() { if IFS= read -r text <\$1; then echo \"\${text#usage_usec }\"; else echo -; fi; } 2>/dev/null; $own"
[ "$version" = 2 ] || program=$(echo "$program" | sed 's/cpuacct.usage_us/cpuacct.usage/')

number=0
while [ "$number" -lt "$runs" ]; do
    number=$((number + 1)) name=orch_startup_$$_$number
    if [ "$driver" = systemd ]; then parent=$name.slice; else parent=/$name; fi
    # shellcheck disable=SC2046 # one word a figure
    set -- $(docker run --rm --network none --memory 64m --pids-limit 64 --cgroup-parent "$parent" \
        --label io.orch-bench=startup --entrypoint /bin/sh "$image" -c "$program")
    if [ "$version" = 2 ]; then
        folder=/sys/fs/cgroup/$name; [ "$driver" = systemd ] && folder=$folder.slice
        after="$(cat "$folder/memory.peak") $(cat "$folder/pids.peak") $(sed -n 's/usage_usec //p' "$folder/cpu.stat")"
    else
        after="$(cat "/sys/fs/cgroup/memory/$name/memory.max_usage_in_bytes")"
        after="$after $(cat "/sys/fs/cgroup/pids/$name/pids.peak")"
        after="$after $(($(cat "/sys/fs/cgroup/cpuacct/$name/cpuacct.usage") / 1000))"
    fi
    cpu=$3
    [ "$version" = 2 ] || cpu=$((cpu / 1000))
    echo "$1 $2 $cpu   $after"
    if [ "$driver" = systemd ]; then systemctl stop "$parent"; else
        for folder in /sys/fs/cgroup/"$name" /sys/fs/cgroup/*/"$name"; do
            if [ -d "$folder" ]; then rmdir "$folder"; fi
        done
    fi
done
