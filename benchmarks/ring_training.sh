#!/bin/bash
# What a short training makes of the border, and which margin it chooses: the lines of docs/models.md.
#   benchmarks/ring_training.sh PHOTOS FOLDER
# trains two networks on clean photographs, one thread each, into new folders in FOLDER, and prints what training says
# of the border at the last iteration.
set -euo pipefail
photos=$1 folder=$2 here=$(dirname "$0")
export OMP_NUM_THREADS=1
mkdir -p "$folder"

short() { # NAME ITERATIONS
    irsde-deploy train --recipe "$here/ring_training.toml" --gt "$photos" --degradation "$1" --iterations "$2" \
        --hold-out astronaut --hold-out coffee -o "$folder/$1" >"$folder/$1.log"
    echo "$1, $2 iterations: $(grep 'at the border' "$folder/$1.log" | tail -1)"
}

short jpeg 300 &
short haze 600 &
wait
