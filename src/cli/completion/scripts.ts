// What each shell loads: a few lines that ask the program itself, so that they fit every release.

export const shells = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof shells)[number]

const bash = `# Completion of hostlet for bash, as "hostlet completion bash" prints it.
_hostlet() {
  local line=\${COMP_LINE:0:COMP_POINT} word candidates
  # Not COMP_WORDS: bash splits them at "=" and ":".
  local -a words
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  word=\${words[-1]}
  COMPREPLY=()
  candidates=$(timeout 3 "\${words[0]}" __complete "\${words[@]:1}" 2>/dev/null) || return
  if [[ $candidates == :files ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "\${word#--*=}")
    return
  fi
  mapfile -t COMPREPLY < <(cut -f1 <<<"$candidates")
  # readline replaces only what stands behind the last "=" or ":".
  local kept=\${word%"\${word##*[=:]}"}
  [[ $kept == '' ]] || COMPREPLY=("\${COMPREPLY[@]#"$kept"}")
}
complete -F _hostlet hostlet
`

const zsh = `#compdef hostlet
# Completion of hostlet for zsh, as "hostlet completion zsh" prints it.
_hostlet() {
  local -a lines values shown
  local line value
  lines=("\${(@f)$(timeout 3 "\${words[1]}" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ "\${lines[1]}" == :files ]]; then
    compset -P '--*='
    _files
    return
  fi
  for line in "\${lines[@]}"; do
    value="\${line%%$'\\t'*}"
    [[ -n "$value" ]] || continue
    values+=("$value")
    if [[ "$line" == *$'\\t'* ]]; then shown+=("$value  -- \${line#*$'\\t'}"); else shown+=("$value"); fi
  done
  (( \${#values} )) && compadd -l -d shown -a values
}
if [[ "$funcstack[1]" == _hostlet ]]; then _hostlet "$@"; else compdef _hostlet hostlet; fi
`

const fish = `# Completion of hostlet for fish, as "hostlet completion fish" prints it.
function __hostlet_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l found (timeout 3 $words[1] __complete $words[2..-1] "$typed" 2>/dev/null)
    if test "$found[1]" = ':files'
        __fish_complete_path (string replace -r '^--[^=]*=' '' -- "$typed")
    else
        printf '%s\\n' $found
    end
end
complete -c hostlet -f -a '(__hostlet_complete)'
`

export const completionScripts: Readonly<Record<Shell, string>> = { bash, zsh, fish }
