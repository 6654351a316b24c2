# Adds what `make fuzz` counted to the table in docs/fuzzing.md: awk -f test/fuzz.awk bin/fuzz.md FILE FILE prints FILE with
# the sums. Its rows have four columns, in the order of the rows with three.
function seconds(text, n, unit) {
	for (n = 0; match(text, /^[0-9]+[hms]/); text = substr(text, RLENGTH + 1)) {
		unit = substr(text, RLENGTH, 1)
		n += substr(text, 1, RLENGTH - 1) * (unit == "h" ? 3600 : unit == "m" ? 60 : 1)
	}
	return n
}
BEGIN { FS = " *[|] *" }
FNR == 1 { file++ }
/^[|] `.*Fuzz/ && NF == 6 && file < 3 {
	executions[$2] += $3
	time[$2] += seconds($4)
	if ($5 > inputs[$2] + 0) inputs[$2] = $5
}
/^[|] `.*Fuzz/ && NF == 5 && file == 3 { order[++count] = $2 }
/^<!-- end/ { old = 0 }
file == 3 && !old { print }
/^<!-- begin/ && file == 3 {
	old = 1
	print "| target | executions | time | inputs |\n|---|---:|---:|---:|"
	for (i = 1; i <= count; i++) {
		print "| " order[i] " | " executions[order[i]] + 0 " | " time[order[i]] + 0 "s | " inputs[order[i]] + 0 " |"
		sum += executions[order[i]]
		total += time[order[i]]
	}
	print "| all | " sum " | " total "s | |"
}
