"""Print a shell script that completes tools, flags and files on Tab.

    drtools completion bash > drtools.bash
    drtools completion fish > drtools.fish

To have it in every shell, add one line to your shell's settings: `eval "$(drtools completion bash)"` to ~/.bashrc,
`eval "$(drtools completion zsh)"` to ~/.zshrc after compinit, or `drtools completion fish | source` to
~/.config/fish/config.fish.

The script completes `drtools TOOL ...` wherever drtools is installed. If it is printed by `bin/drtools completion` from
a checkout, it also completes bin/TOOL. bash must be 4.1 or later.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument

# A name in bin/ is completed if it is this checkout's, and not another program of that name: Tab runs what it
# completes.
BASH = r"""_drtools() {
    local command=${1/#\~/$HOME} answer
    compopt -o default
    [[ ${1##*/} == drtools || $command -ef LAUNCHER ]] || return 0
    answer=$(DRTOOLS_COMPLETE=1 "$command" "${COMP_WORDS[@]:1:COMP_CWORD-1}" "$2" 2>/dev/null) || return 0
    [[ $answer == files ]] && return 0
    compopt +o default
    mapfile -t COMPREPLY <<< "$answer"
    COMPREPLY=("${COMPREPLY[@]:1}")
    COMPREPLY=("${COMPREPLY[@]%%$'\t'*}")
}
complete -F _drtools drtools {,./,CHECKOUT/}bin/{NAMES}
"""

ZSH = r"""(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_drtools() {
    local command=${words[1]/#\~/$HOME} answer
    [[ ${command:t} == drtools || $command -ef LAUNCHER ]] || { _default; return; }
    _compskip=all
    answer=$(DRTOOLS_COMPLETE=1 $command "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null) || { _default; return; }
    if [[ $answer == files ]]; then
        [[ $PREFIX == --*=* ]] && compset -P '*='
        _files
        return
    fi
    local -a lines=("${(@)${(f)answer}[2,-1]}")
    lines=("${(@)lines//:/\\:}")
    lines=("${(@)lines/$'\t'/:}")
    _describe -V drtools lines
}
compdef _drtools drtools
compdef -p _drtools '(*/|)bin/(NAMES)'
"""

FISH = r"""function __drtools_candidates
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    test (path basename -- $program) = drtools -o $program -ef LAUNCHER; or return
    set -l answer (DRTOOLS_COMPLETE=1 $program $words[2..] $current 2>/dev/null)
    if test "$answer" = files
        set -l name (string match -r -- '^--[^=]+=' $current)
        __fish_complete_path (string replace -- "$name" '' $current) | string replace -r '^' -- "$name"
    else
        string join \n -- $answer[2..]
    end
end
complete -c drtools -f -a '(__drtools_candidates)'
for name in launch NAMES; complete -p CHECKOUT/bin/$name -f -a '(__drtools_candidates)'; end
"""


def main(
    shell: Annotated[Literal["bash", "zsh", "fish"], Argument(help="shell to print the script for")],
) -> None:
    """Print the script of a shell, with the place and the commands of this checkout if it is one."""
    folder = Path(__file__).parents[2] / "bin"
    names = sorted(path.name for path in folder.iterdir() if path.is_symlink()) if (folder / "launch").exists() else []
    script, between = {"bash": (BASH, ","), "zsh": (ZSH, "|"), "fish": (FISH, " ")}[shell]
    if not names:
        script = "".join(line for line in script.splitlines(keepends=True) if "NAMES" not in line)
    print(
        script.replace("NAMES", between.join(names))
        .replace("LAUNCHER", shlex.quote(str(folder / "launch")))
        .replace("CHECKOUT", shlex.quote(str(folder.parent))),
        end="",
    )
