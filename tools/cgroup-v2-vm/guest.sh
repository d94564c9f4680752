# In the virtual machine, on the host's files: control groups as systemd and containers lay them out, and what uses them.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
export HOME=/run CI=true NO_COLOR=1 NCHUNK_TEST_CONTEXT=128
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/node_modules/.cache/cgroup-v2-vm
mode=$(sed -n 's/.*nchunk_mode=\([a-z-]*\).*/\1/p' /proc/cmdline)
cd "$root" || exit

# The tests' folder is on a disk of this machine's own, where reads go past the page cache, and the plain user's.
user=1000
tests=$root/node_modules/.cache/nchunk-test
mkdir -p "$tests" /mnt/tests /mnt/cache /mnt/tmp
mount --bind /mnt/tests "$tests"
chmod 1777 /mnt/tmp /run
chown -R $user /mnt/tests /mnt/cache
for package in . packages/* apps/*; do
  mkdir -p "$package/node_modules/.vite-temp"
  chown $user "$package/node_modules/.vite-temp"
done
export NCHUNK_CACHE_DIR=/mnt/cache TMPDIR=/mnt/tmp

G=/sys/fs/cgroup
session=user.slice/user-0.slice/session-1.scope
login=user.slice/user-$user.slice/session-2.scope
service=user.slice/user-$user.slice/user@$user.service
scope=$service/app.slice/run-1.scope
probe="timeout 100 node $work/probe.js"
nchunk="node apps/nchunk/dist/cli.js"
# All is slow in here.
vitest="timeout 2400 node node_modules/vitest/vitest.mjs run --project nchunk --testTimeout 1200000 --hookTimeout 1200000 --reporter verbose"
budgets="apps/nchunk/test/bench-e2e-parts.test.ts apps/nchunk/test/memory-budget.test.ts"
passed=0
failed=0

# Runs a command, whose output must match a pattern. $1: what it shows. $2: the pattern.
expect() {
  echo "== $(cut -d. -f1 /proc/uptime) s: $1"
  pattern=$2
  shift 2
  "$@" 2>&1 | tee /run/output
  if grep -qE "$pattern" /run/output; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: nothing in it matches $pattern"
  fi
}

mount_v2() { mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 "$1"; }

# Groups down to $1, each handing memory down to the next, as systemd does.
make_groups() {
  at=$G
  for name in $(echo "$1" | tr / ' '); do
    echo "+memory +pids +cpu" > "$at/cgroup.subtree_control"
    at=$at/$name
    mkdir -p "$at"
  done
}

# The groups of a user's service manager, which are the user's, with a scope below.
make_user_groups() {
  make_groups $scope
  for group in $service $service/app.slice $scope; do
    chown $user $G/$group $G/$group/cgroup.procs $G/$group/cgroup.subtree_control
  done
}

# Runs a command in a group.
within() (
  procs=$G/$1/cgroup.procs
  shift
  sh -c 'echo $PPID > "$0"' "$procs" && "$@"
)

as_user() { setpriv --reuid $user --regid $user --clear-groups "$@"; }

in_container() { unshare -C -m sh -c "umount $G && mount -t cgroup2 cgroup2 $G && $1"; }

# So that what is over a limit had a place to go to.
swap_on() {
  dd if=/dev/zero of=/mnt/swap bs=1M count=512 2> /dev/null
  chmod 600 /mnt/swap
  mkswap /mnt/swap > /dev/null && swapon /mnt/swap
}

mode_limits() {
  mount_v2 $G && swap_on
  holds="limits hold"
  expect "root, in the topmost group" "$holds" $probe
  make_groups $session && make_user_groups
  expect "root, in a session's scope" "$holds" within $session $probe
  expect "a plain user, in a scope of the user's service manager" "$holds" within $scope as_user $probe
  mkdir -p $G/plain.slice/leaf
  expect "root, where the group above does not hand memory down" "$holds" within plain.slice/leaf $probe
  make_groups $login
  expect "a plain user, in a session's scope" "refused: .*EACCES.*systemd-run" within $login as_user $probe
  chown $user $G/user.slice/user-$user.slice
  expect "a plain user who may make groups and not move processes" "refused: .*EACCES.*systemd-run" within $login as_user $probe

  make_groups container/leaf
  expect "a container that sees its groups read-only" "refused: .*EROFS.*--privileged" \
    within container/leaf in_container "mount -o remount,bind,ro $G && exec $probe"
  expect "a container that may write" "refused: .*EBUSY.*all/cgroup.procs" within container/leaf in_container "exec $probe"
  expect "such a container, its processes moved as advised" "$holds" within container/leaf \
    in_container "mkdir $G/all; for p in \$(cat $G/cgroup.procs); do echo \$p > $G/all/cgroup.procs; done; exec $probe"
  make_groups container/another
  expect "groups of another namespace mounted" "refused: .*another namespace" within container/another unshare -C $probe
  mkfifo /run/pid /run/go
  (echo "$(cat /run/pid)" > $G/$session/cgroup.procs; echo > /run/go) &
  expect "a process outside of its namespace's groups" "refused: .*another namespace" within container/another \
    in_container "echo \$\$ > /run/pid; read moved < /run/go; exec $probe"

  mkdir -p "/run/control groups"
  expect "mounted at another place" "$holds" unshare -m sh -c "mount --move $G '/run/control groups' && exec $probe"
  expect "mounted nowhere" "refused: .*mount -t cgroup2" unshare -m sh -c "umount $G && exec $probe"

  make_groups limited/leaf
  echo 1G > $G/limited/memory.max
  echo "50000 100000" > $G/limited/cpu.max
  expect "doctor under limits" "time of 0\.5\".*\"1\.0 GiB\"" within limited/leaf $nchunk doctor --json
}

mode_no_memory() {
  mount_v2 $G
  expect "a kernel without the controller" "refused: .*cgroup_enable=memory" $probe
  mkdir -p $G/slice/scope
  expect "a kernel without the controller, in a scope" "refused: .*cgroup_enable=memory" within slice/scope $probe
}

mode_hybrid() {
  mount -t tmpfs cgroup $G
  mkdir $G/memory $G/cpu $G/unified
  mount -t cgroup -o cpu cgroup $G/cpu
  mount_v2 $G/unified && swap_on
  expect "memory in version 2 beside version 1" "limits hold" $probe
  umount $G/unified
  mount -t cgroup -o memory cgroup $G/memory && mount_v2 $G/unified
  expect "memory in version 1 beside version 2" "limits hold" $probe
}

expect_tests() {
  expect "tests" "Tests +[0-9]+ passed" "$@"
  mv /run/output /run/tests
  expect "what tests under a limit took" "group's peak .* oom 0, oom_kill 0" grep "group" /run/tests
}

mode_tests() {
  mount_v2 $G && swap_on
  make_groups $session
  expect_tests within $session $vitest $budgets -t "control group"
}

mode_tests_user() {
  mount_v2 $G && swap_on
  make_user_groups
  expect_tests within $scope as_user $vitest $budgets -t "control group"
}

mode_budgets() {
  mount_v2 $G && swap_on
  make_groups $session
  expect_tests within $session $vitest $budgets
}

# The limit is set by hand, and nothing is in the page cache: the group pays for Node's own pages too.
mode_cold() {
  mount_v2 $G && swap_on
  set -- "$tests"/memory-budget/*/manifest.json
  run="--model ${1%/*} --policy dense --context-length 128"
  $nchunk plan $run --json > /run/plan
  bytes() { sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" /run/plan | head -n 1; }
  for quarters in 0 2; do
    budget=$(($(bytes minimumBytes) + $(bytes streamedBytes) * quarters / 4))
    make_groups cold-$quarters
    cd $G/cold-$quarters || exit
    echo $((budget * 105 / 100)) > memory.max
    echo 0 > memory.swap.max
    cd "$root" || exit
    echo 3 > /proc/sys/vm/drop_caches
    within cold-$quarters $nchunk logits $run --memory-budget $budget --direct-io required --token-ids 1,2,3,4,5,6,7,8 --json > /run/said
    expect "budget $budget, $quarters quarters of what is streamed in it" '"logits"' head -c 200 /run/said
    cd $G/cold-$quarters || exit
    expect "the group's limit and what it took" "oom_kill 0" \
      grep -E "^(anon|file|oom.*|max|[0-9]+)( |$)" memory.max memory.peak memory.events memory.swap.current memory.stat
    cd "$root" || exit
  done
}

# Needs models and llama.cpp in the cache that came from the host. Setting what is read ahead lifts the limit of time.
mode_bench() {
  mount_v2 $G && swap_on
  make_groups $session
  expect "bench e2e" '"peer75": [0-9]' within $session $nchunk bench e2e --json --peer-read-ahead 128
}

uname -r
"mode_$(echo "$mode" | tr - _)"
echo "$passed passed, $failed failed"
sync
echo o > /proc/sysrq-trigger
while :; do :; done
