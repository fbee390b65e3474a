# Tests of the lab's machine: a disk that is full or slow, a clock that steps. Sourced by in-the-machine.

config_map() { # NAME: a ConfigMap of 64 KiB
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n  filler: ' "$1"
  head -c 65536 /dev/zero | tr '\0' x
  echo
}

# The store's disk is full: writes are refused in words, reads go on, and with room again writes do, nothing lost.
full() {
  acked=0 said=
  while [ $acked -lt 8 ]; do
    config_map full-$acked >/tmp/map.yml
    coracle create -f /tmp/map.yml || { miss "disk full: no write before it is full"; return; }
    acked=$((acked + 1))
  done
  dd if=/dev/zero of=/data/control/filler bs=64k >/dev/null 2>&1
  while [ $acked -lt 200 ]; do
    config_map full-$acked >/tmp/map.yml
    said=$(coracle create -f /tmp/map.yml 2>&1) || break
    acked=$((acked + 1)) said=
  done
  # What the failed write left is not known: the store is opened again before anything is answered, on a slow machine too.
  since=$(up_s)
  reads_go_on() { reads=$(coracle get configmaps -o name | grep -c full-); [ $reads -ge $acked ]; }
  within 60 reads_go_on
  reads="$reads read $(awk "BEGIN { print $(up_s) - $since }") s later"
  rm /data/control/filler
  again() { config_map after >/tmp/map.yml; coracle apply -f /tmp/map.yml; }
  if within 60 again; then after=works; else after="does not work: $(again 2>&1 | head -n 1)"; fi
  coracle get configmaps -o name >/tmp/there
  lost=0 n=0
  while [ $n -lt $acked ]; do grep -q "full-$n\$" /tmp/there || lost=$((lost + 1)); n=$((n + 1)); done
  found="disk full after $acked writes: '$said'; $reads, still full; a write after room was made $after; $lost acknowledged lost"
  if [ -n "$said" ] && [ "${reads%% *}" -ge $acked ] && [ "$after" = works ] && [ $lost = 0 ] && kill -0 $control; then pass "$found"
  else miss "$found"; fi
}

# The store's disk does ten writes a second, as a worn card: everything takes longer, and nothing else happens to it.
slow() {
  since=$(up_s) n=0
  while [ $n -lt 5 ]; do
    config_map slow-$n >/tmp/map.yml
    coracle create -f /tmp/map.yml || { miss "slow disk: a write was refused"; return; }
    n=$((n + 1))
  done
  took=$(awk "BEGIN { print ($(up_s) - $since) / 5 }")
  since=$(up_s); coracle get configmaps -o name >/dev/null; alone_s=$(awk "BEGIN { print $(up_s) - $since }")
  # What a read takes in the midst of writes.
  (n=5; while [ $n -lt 10 ]; do config_map slow-$n; echo ---; n=$((n + 1)); done) >/tmp/maps.yml
  coracle create -f /tmp/maps.yml >/dev/null & writing=$!
  since=$(up_s); coracle get configmaps -o name >/dev/null; read_s=$(awk "BEGIN { print $(up_s) - $since }")
  wait $writing
  there=$(coracle get configmaps -o name | grep -c slow-)
  doctor=$(coracle-agent --data-dir /data/control doctor | grep disk-sync)
  # The control plane starts again from what is there.
  kill -KILL $control; wait $control
  coracle serve --data-dir /data/control --listen 0.0.0.0:6443 --advertise 10.0.2.15 >>/data/control.log 2>&1 &
  control=$!
  since=$(up_s)
  again() { [ "$(coracle get configmaps -o name | grep -c slow-)" = 10 ]; }
  if within 60 again; then back="back $(awk "BEGIN { print $(up_s) - $since }") s after SIGKILL with all of them"; else back="not back"; fi
  coracle wait --for=condition=Ready node/lab --timeout=120s
  found="a write of 64 KiB takes $took s, a read $alone_s s and beside writes $read_s s, $there of 10 there, $back; node Ready $(condition node lab Ready status); doctor: $doctor"
  case "$there $back $(condition node lab Ready status) $doctor" in
    "10 back "*" True lacking"*"slow; use "*) pass "slow disk: $found" ;;
    *) miss "slow disk: $found" ;;
  esac
}

# It is 1970 until the time comes from somewhere: nothing that runs is harmed, and new things start.
step() {
  year=$(date -u +%Y)
  [ "$year" = 1970 ] || { miss "the machine should have begun in 1970, not $year"; return; }
  starts() { field pods "-l=app=test-service" '{.items[*].status.containerStatuses[0].state.running.startedAt}'; }
  counts() { field pods "-l=app=test-service" '{.items[*].status.containerStatuses[0].restartCount}' | tr '\n' ' '; }
  shims() { for p in /proc/[0-9]*; do case $(tr '\0' ' ' <$p/cmdline 2>/dev/null) in *coracle-agent*shim*) echo "${p#/proc/}" ;; esac; done; }
  before="$(starts)" shims_before="$(shims)"
  date -u -s @$(told now) >/dev/null
  coracle create -f /lab/busy.yml
  coracle wait --for=jsonpath={.status.phase}=Running pod/busy --timeout=180s
  sleep 60
  ready=$(condition node lab Ready status)
  busy=$(field pod busy '{.status.phase}')
  found="joined in 1970, stepped to $(date -u +%Y-%m-%d): node Ready $ready, a new pod $busy, restarts $(counts)"
  if [ "$ready $busy" = "True Running" ] && [ "$(starts)" = "$before" ] && [ "$(shims | head -n 2)" = "$(echo "$shims_before" | head -n 2)" ]; then pass "$found"
  else miss "$found; started $before, now $(starts)"; fi
}
