#!/bin/sh
# Fails when a folder includes another one it may not know. Run from the repository root.
allow() { # folder, then the folders it may include
  d=$1; ok=" $* "
  grep -rnoE '#include "(common|daemon|aggregator|cli|bpf|schemas|tests|bench)/' "$d" \
      --include='*.h' --include='*.cc' --include='*.c' 2>/dev/null |
    while IFS= read -r hit; do
      to=${hit##*\"}; to=${to%/}
      case $ok in *" $to "*) ;; *) echo "${hit%%:#*}: $d may not include $to/" ;; esac
    done
}
out=$(allow schemas; allow bpf; allow common schemas; allow daemon common schemas bpf
      allow aggregator common schemas; allow cli common schemas)
[ -z "$out" ] || { echo "$out"; exit 1; }
