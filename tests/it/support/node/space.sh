# Makes the namespaces that a node and its control plane live in, and stays as their first process; when it is killed,
# everything in them is gone: processes, mounts, interfaces. Its control groups stay until somebody removes them.
#
#   sh -eu -c SCRIPT sh NAME FOLDER PAUSE
name=$1 folder=$2 pause=$3

# A control group of its own, in every hierarchy, becomes the root of what is seen inside.
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then trees=/sys/fs/cgroup; else trees=$(echo /sys/fs/cgroup/*); fi
for tree in $trees; do
  [ -f "$tree/cgroup.procs" ] || continue
  mkdir -p "$tree/$name"
  # With version 1 a set of no processors takes no process.
  for file in cpuset.cpus cpuset.mems; do
    if [ -f "$tree/$file" ]; then cat "$tree/$file" >"$tree/$name/$file"; fi
  done
  echo $$ >"$tree/$name/cgroup.procs"
done

exec unshare --fork --kill-child --pid --mount --net --cgroup --uts --ipc -- sh -euc '
  folder=$1 pause=$2
  # The tree that was seen so far belongs to other namespaces.
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  if [ -z "$(sed -n "/^[1-9]/p" /proc/self/cgroup)" ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir -p /sys/fs/cgroup/main
    echo $$ >/sys/fs/cgroup/main/cgroup.procs
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
      echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
    done
  else
    mount -t tmpfs tmpfs /sys/fs/cgroup
    while IFS=: read -r number controllers _; do
      [ "$number" != 0 ] || continue
      tree=/sys/fs/cgroup/${controllers#name=}
      mkdir "$tree"
      case $controllers in name=*) controllers=none,$controllers ;; esac
      mount -t cgroup -o "$controllers" cgroup "$tree"
    done </proc/self/cgroup
  fi

  # The kubelet sets what it misses for the whole machine; it finds everything as it wants it, and sets nothing.
  mkdir "$folder/tunables"
  for tunable in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=$folder/tunables/$(basename "${tunable%=*}")
    echo "${tunable#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${tunable%=*}"
  done

  mount -t tmpfs tmpfs /run
  for place in /var/lib/kubelet /var/lib/cni /var/log; do
    mkdir -p "$folder$place" "$place"
    mount --bind "$folder$place" "$place"
  done
  mount --make-rshared /
  ip link set lo up
  # Of this network namespace alone.
  echo 1 >/proc/sys/net/ipv4/ip_forward
  echo inside >"$folder/ready"
  exec "$pause"
' sh "$folder" "$pause"
