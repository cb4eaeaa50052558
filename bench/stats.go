package main

import (
	"slices"
	"strconv"
	"strings"
)

// median returns 0 of nothing.
func median(v []float64) float64 { return quantile(v, 0.5) }

// quantile interpolates between the neighbours.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	at := q * float64(len(v)-1)
	i := min(int(at), max(len(v)-2, 0))
	if i+1 == len(v) {
		return v[i]
	}
	return v[i] + (at-float64(i))*(v[i+1]-v[i])
}

// A spread is a median, and the range that has 95% of the values: of less than 40, nearly all.
type spread struct{ Median, Low, High float64 }

func spreadOf(v []float64) spread {
	return spread{median(v), quantile(v, 0.025), quantile(v, 0.975)}
}

// ratios are those of the pairs: what two contestants have shown in the same round.
func ratios(a, b []float64) (r []float64) {
	for i := range min(len(a), len(b)) {
		if b[i] != 0 {
			r = append(r, a[i]/b[i])
		}
	}
	return r
}

// number formats v with so many digits behind the point, and with commas before it.
func number(v float64, digits int) string {
	s := strconv.FormatFloat(v, 'f', digits, 64)
	whole, rest := s, ""
	if i := strings.IndexByte(s, '.'); i >= 0 {
		whole, rest = s[:i], s[i:]
	}
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return sign + whole + rest
}
