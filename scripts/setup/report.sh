# What set-up prints: one line a step with its seconds, a log for the noise, one clear line on failure.

# Hundredths of a second since boot: monotonic, and readable without starting a process.
now() {
  read -r uptime _ </proc/uptime
  whole=${uptime%.*} hundredths=${uptime#*.}
  echo "$whole${hundredths}"
}

since() {
  elapsed=$(($(now) - $1))
  printf '%d.%d s' $((elapsed / 100)) $((elapsed % 100 / 10))
}

say() { printf 'setup  %-9s %s\n' "$1" "$2"; }

# fail WHAT NEXT: says what is wrong and what to do, and ends the set-up.
fail() {
  printf 'setup  failed    %s\n                 %s\n' "$1" "$2" >&2
  exit 1
}

# step NAME DONE COMMAND...: runs a noisy command into the log; prints DONE with its seconds. A command that found
# nothing to do exits 10, and then nothing is printed.
step() {
  name=$1 done_text=$2 step_at=$(now)
  shift 2
  printf '\n== %s: %s\n' "$name" "$*" >>"$log"
  status=0
  "$@" >>"$log" 2>&1 9>&- </dev/null || status=$?
  case $status in
    0) say "$name" "$done_text  $(since "$step_at")" ;;
    10) ;;
    *)
      # This step's part of the log: what names an error first, for some programs end with a page of usage.
      awk '/^== / { text = "" } { text = text $0 "\n" } END { printf "%s", text }' "$log" >"$log.step"
      { grep -iE 'error|failed|^E:' "$log.step" | head -n 8; echo ...; tail -n 8 "$log.step"; } | sed 's/^/    | /' >&2
      fail "$name: \"$*\" ended with status $status" "The whole log: $log"
      ;;
  esac
}
