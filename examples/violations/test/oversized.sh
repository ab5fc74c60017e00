# oversized: a rule gives it the profile slow, and it needs next to nothing.
sleep 0.2
