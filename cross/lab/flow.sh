# Tests of the lab's machine: the flow of a Deployment, limits, figures. Sourced by in-the-machine.

# The Deployment of the quick start.
two_run() { [ "$(field deployment test-service-deploy '{.status.readyReplicas}')" = 2 ]; }
deployment() {
  coracle create -f /lab/basic-deployment.yml
  since=$(up_s)
  within 180 two_run
  echo "lab: figure: Deployment created to 2 pods ready: $(awk "BEGIN { print $(up_s) - $since }") s"
  answers=0
  for ip in $(field pods "-l=app=test-service" '{.items[*].status.podIP}'); do
    answer=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 10 "$ip" 9876 | tail -n 1); echo "lab: $ip answers $answer"
    case $answer in *'"0.5"'*) answers=$((answers + 1)) ;; esac
  done
  phases=$(field pods "-l=app=test-service" '{.items[*].status.phase}' | tr '\n' ' ')
  if two_run && [ $answers = 2 ]; then pass "the Deployment: pods $phases, $answers of 2 answer on 9876"
  else miss "the Deployment: pods $phases, $answers of 2 answer on 9876"; fi
}

# An image for another architecture: an archive of it is not taken, and a registry that has it is asked for no layer.
foreign() {
  if said=$(coracle-agent --data-dir /data/agent image import /lab/foreign.tar 2>&1); then miss "an amd64 image was taken: $said"; return; fi
  case $said in
    *amd64*arm64* | *arm64*amd64*) ;;
    *) miss "an amd64 image is refused, but not because of that: $said"; return ;;
  esac
  httpd -f -vv -p 127.0.0.1:5000 -h /lab/registry >/tmp/registry.log 2>&1 & registry=$!
  coracle create -f /lab/foreign.yml
  waiting() { field pod foreign '{.status.containerStatuses[0].state.waiting.message}'; }
  refused() { waiting | grep -q 'linux/arm64.*linux/amd64'; }
  within 120 refused
  why=$(waiting)
  manifest=/lab/registry/v2/lab/foreign/manifests/latest
  asked() { grep -c "url:/v2/lab/foreign/$1\$" /tmp/registry.log; }
  layer=$(sed 's/.*"layers"[^]]*"digest":"\([^"]*\)".*/\1/' $manifest)
  config=$(sed 's/.*"config":{[^}]*"digest":"\([^"]*\)".*/\1/' $manifest)
  found="from an archive ($said); from a registry asked $(asked manifests/latest) times for the manifest, $(asked "blobs/$config") for the config, $(asked "blobs/$layer") for the layer ($why)"
  if refused && [ "$(asked manifests/latest)" -gt 0 ] && [ "$(asked "blobs/$config")" -gt 0 ] && [ "$(asked "blobs/$layer")" = 0 ]; then
    pass "an amd64 image is refused: $found"
  else miss "an amd64 image is not refused before it is pulled: $found; $(tail -n 4 /tmp/registry.log | tr '\n' '|')"; fi
  coracle delete pod foreign
  kill $registry
}

# A pod that wants more than its memory limit.
state='{.status.containerStatuses[0].state.terminated'
killed() { [ -n "$(field pod hungry "$state.reason}")" ]; }
oom() {
  coracle create -f /lab/hungry.yml
  within 180 killed
  why="$(field pod hungry "$state.reason}") $(field pod hungry "$state.exitCode}")"
  if [ "$why" = "OOMKilled 137" ]; then pass "over its memory limit: reason and exit code $why"
  else miss "over its memory limit: reason and exit code are '$why', not OOMKilled 137"; fi
}

# A pod that wants more than its CPU limit.
throttled() { [ "$(sed -n 's/^nr_throttled //p' $group/cpu.stat)" -gt 0 ]; }
throttle() {
  coracle create -f /lab/busy.yml
  coracle wait --for=jsonpath={.status.phase}=Running pod/busy --timeout=180s
  group=
  for process in /proc/[0-9]*; do
    grep -q 'busy-with-nothing' $process/cmdline 2>/dev/null || continue
    case $(tr '\0' ' ' <$process/cmdline) in *busybox*) group=/sys/fs/cgroup$(sed -n 's/^0:://p' $process/cgroup) ;; esac
  done
  within 60 throttled
  found="cpu.max $(cat $group/cpu.max), $(grep '^nr_' $group/cpu.stat | tr '\n' ' ')of $group"
  if [ "$(cat $group/cpu.max)" = "10000 100000" ] && throttled; then pass "throttled: $found"
  else miss "throttled: $found"; fi
  coracle delete pod busy
}

# A pod that wants more processes than a pod may have: the kernel refuses them, and the rest of the machine has its own.
held() { [ "$(sed -n 's/^max //p' $group/pids.events)" -gt 0 ]; }
crowd() {
  coracle create -f /lab/crowd.yml
  coracle wait --for=jsonpath={.status.phase}=Running pod/crowd --timeout=180s
  group=
  for process in /proc/[0-9]*; do
    case $(tr '\0' ' ' <$process/cmdline 2>/dev/null) in
      *busybox*sleep*901*) group=/sys/fs/cgroup$(sed -n 's/^0:://p' $process/cgroup) ;;
    esac
  done
  # The limit is the pod's, whose directory is above its containers'.
  while [ ${#group} -gt 15 ] && [ "$(cat $group/pids.max)" = max ]; do group=${group%/*}; done
  within 240 held
  found="pids.max $(cat $group/pids.max), pids.current $(cat $group/pids.current), refused $(sed -n 's/^max //p' $group/pids.events) times, of $group"
  if held && [ "$(cat $group/pids.max)" = 1024 ] && [ "$(cat $group/pids.current)" -le 1024 ] && [ "$(condition node lab Ready status)" = True ]; then
    pass "held to its number of processes: $found"
  else miss "not held to its number of processes: $found"; fi
  coracle delete pod crowd
  vanished() { [ ! -e $group ]; }
  within 60 vanished || miss "processes of the deleted pod are left: $group"
}

# The memory controller is off: the node says so with the exact fix, and memory requests are counted all the same.
unlimited() {
  said="$(condition node lab MemoryControllerMissing status) $(condition node lab MemoryControllerMissing message)"
  case $said in
    True*"cgroup_enable=memory cgroup_memory=1"*"/boot/firmware/cmdline.txt"*) ;;
    *) miss "memory controller off: the condition is '$said'"; return ;;
  esac
  coracle create -f /lab/large.yml
  pending() { condition pod large PodScheduled message; }
  refused() { pending | grep -q 'Insufficient memory'; }
  if within 60 refused; then pass "memory controller off: condition '$said'; a request of 64Gi: $(pending)"
  else miss "memory controller off: a request of 64Gi is not refused: $(pending)"; fi
  coracle delete pod large
}

# Control plane, agent and 20 pods in this machine's memory.
twenty_run() { [ "$(field deployment twenty '{.status.readyReplicas}')" = 20 ]; }
twenty() {
  coracle create -f /lab/twenty.yml
  since=$(up_s)
  if within 400 twenty_run; then
    pass "20 pods ready $(awk "BEGIN { print $(up_s) - $since }") s after they were asked for; $(free -m | awk '/^Mem:/ { print $7 }') of $(free -m | awk '/^Mem:/ { print $2 }') MiB available"
  else miss "20 pods: $(field deployment twenty '{.status.readyReplicas}') are ready"; fi
}

# Proportional set size of each of our processes, a while after the last change, beside its limit. What is of files is the
# same on an idle machine and a busy one; what is anonymous grows with what is stored.
pss_kib() { awk '/^Pss:/ { print $2 }' /proc/$1/smaps_rollup; }
figure() { # NAME KIB LIMIT-KIB WORDS
  if [ "$2" -le "$3" ]; then word=within; else word=OVER; fi
  echo "lab: figure: PSS of $1: $2 KiB, $word $3 KiB$4"
}
parts() { awk '/^Pss_Anon:/ { own = $2 } /^Pss_(File|Shmem):/ { file += $2 } END { printf " (%d anonymous, %d of files)", own, file }' /proc/$1/smaps_rollup; }
figures() {
  sleep 20
  figure "coracle serve" $(pss_kib $control) 8192 "$(parts $control)"
  figure "coracle-agent" $(pss_kib $agent) 4096 "$(parts $agent)"
  sum=0 count=0
  for process in /proc/[0-9]*; do
    case $(tr '\0' ' ' <$process/cmdline 2>/dev/null) in
      *coracle-agent*shim*) sum=$((sum + $(pss_kib ${process#/proc/}))); count=$((count + 1)) ;;
    esac
  done
  # They share their code: a few have more each.
  if [ $count -ge 20 ]; then figure "each of $count shims" $((sum / count)) 307
  elif [ $count != 0 ]; then echo "lab: figure: PSS of each of $count shims: $((sum / count)) KiB"; fi
}
