#!/usr/bin/env bash
# A private one-node SLURM cluster for the integration tests, from Debian's packages. Needs root, no systemd.
#
#   tests/integration/slurm_cluster.sh up     install what is missing, start what does not run, verify with a job
#   tests/integration/slurm_cluster.sh down   end all jobs and the daemons
#
# Clients find it through SLURM_CONF, which `up` prints on its last line; an existing SLURM is not touched. All files
# lie in $SLURM_TEST_FOLDER (default /var/tmp/debiasing-slurm). Exit code 3: the packages cannot be installed here.
set -euo pipefail

folder=${SLURM_TEST_FOLDER:-/var/tmp/debiasing-slurm}
cpus=${SLURM_TEST_CPUS:-$(env -u OMP_NUM_THREADS nproc)}
export SLURM_CONF=$folder/slurm.conf
export PATH=$PATH:/usr/sbin:/sbin
host=$(hostname -s)

fail() {
  echo "slurm_cluster: $1" >&2
  for log in "$folder"/log/*.log; do
    if [ -f "$log" ]; then echo "--- $log" >&2 && tail -n 5 "$log" >&2; fi
  done
  exit "${2:-1}"
}

alive() { [ -f "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null; }

wait_until() { # wait_until SECONDS COMMAND...
  local tries=$(($1 * 10))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $((tries--)) -gt 0 ] || return 1
    sleep 0.1
  done
}

install_packages() {
  for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || missing=yes
  done
  [ "${missing:-no}" = yes ] || return 0
  command -v apt-get >/dev/null || fail "there is no apt-get to install SLURM with" 3
  # Without this file the packages would start daemons of their own.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt() { apt-get install --yes --no-install-recommends munge slurmctld slurmd slurm-client >"$folder/log/apt.log" 2>&1; }
  apt || { apt-get update >"$folder/log/apt-update.log" 2>&1 && apt; } || fail "the packages cannot be installed" 3
}

write_configuration() {
  # A requeued job waits for the credential's expiry plus a second, 121 s unless told otherwise; 5 is the least.
  cat >"$SLURM_CONF" <<EOF
ClusterName=debiasing
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
ReturnToService=2
JobRequeue=1
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=8000
PartitionName=main Nodes=$host Default=YES PriorityTier=5 PreemptMode=OFF
PartitionName=low Nodes=$host PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=$host PriorityTier=10 PreemptMode=OFF
EOF
  # slurmd wants a cgroup plugin it can load, even though nothing above uses one.
  echo "CgroupPlugin=cgroup/v1" >"$folder/cgroup.conf"
}

up() {
  mkdir -p "$folder"/{log,state,spool}
  chmod 755 "$folder"
  install_packages
  getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts
  write_configuration
  # Daemons must not inherit a pipe of the caller, who would wait for its end.
  if ! alive munged; then
    rm -f "$folder"/munge.socket*
    [ -s "$folder/munge.key" ] || (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
      --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed" </dev/null >"$folder/log/start.log" 2>&1 ||
      fail "munged does not start"
  fi
  alive slurmctld || slurmctld -f "$SLURM_CONF" </dev/null >"$folder/log/start.log" 2>&1 || fail "slurmctld does not start"
  alive slurmd || slurmd -f "$SLURM_CONF" </dev/null >"$folder/log/start.log" 2>&1 || fail "slurmd does not start"
  wait_until 30 sh -c 'scontrol ping | grep -q "is UP"' || fail "slurmctld does not answer"
  # A node that went down in an earlier life stays so until it is resumed.
  wait_until 5 sh -c 'sinfo -h -p main -o %T | grep -qE "idle|mixed|allocated"' ||
    scontrol update nodename="$host" state=resume || true
  timeout 60 srun --quiet true || fail "a job does not run"
  echo "SLURM_CONF=$SLURM_CONF"
}

down() {
  if alive slurmctld && alive slurmd; then
    squeue -h -o %A | sort -u | xargs -r scancel
    wait_until 30 sh -c 'test -z "$(squeue -h)"' || true
  fi
  for daemon in slurmd slurmctld munged; do
    if alive "$daemon"; then
      pid=$(cat "$folder/$daemon.pid")
      kill "$pid"
      wait_until 20 sh -c "! kill -0 $pid" || kill -KILL "$pid"
    fi
  done
}

[ "$(id -u)" = 0 ] || fail "run me as root" 3
case "${1:-}" in
  up) up ;;
  down) down ;;
  *) fail "usage: tests/integration/slurm_cluster.sh up|down" 2 ;;
esac
