#!/bin/sh
# Uses the processor for a moment: something for the autoscaler to see.
i=0
while [ "$i" -lt 30000 ]; do i=$((i + 1)); done
printf 'Content-Type: text/plain\r\n\r\nburnt\n'
