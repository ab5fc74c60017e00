# time-near: ends just before its time limit of 4 s.
sleep 3.65
