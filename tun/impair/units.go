package impair

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// A unit is a word that may follow a number, and what the number is then multiplied by.
type unit struct {
	name  string
	scale float64
}

// Units as tc has them, the first of equal ones being the one that is printed.
var (
	timeUnits = []unit{
		{"s", 1e9}, {"sec", 1e9}, {"secs", 1e9},
		{"ms", 1e6}, {"msec", 1e6}, {"msecs", 1e6},
		{"us", 1e3}, {"usec", 1e3}, {"usecs", 1e3},
		{"ns", 1}, {"nsec", 1}, {"nsecs", 1},
	}
	rateUnits = []unit{
		{"tbit", 1e12}, {"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1},
		{"tibit", 1 << 40}, {"gibit", 1 << 30}, {"mibit", 1 << 20}, {"kibit", 1 << 10},
		{"tbps", 8e12}, {"gbps", 8e9}, {"mbps", 8e6}, {"kbps", 8e3}, {"bps", 8},
		{"tibps", 8 << 40}, {"gibps", 8 << 30}, {"mibps", 8 << 20}, {"kibps", 8 << 10},
	}
	sizeUnits = []unit{
		{"b", 1}, {"k", 1 << 10}, {"kb", 1 << 10}, {"m", 1 << 20}, {"mb", 1 << 20}, {"g", 1 << 30}, {"gb", 1 << 30},
	}
)

// number splits a word into a decimal number and what follows it. It takes no sign, no exponent and none
// of strconv's other forms.
func number(s string) (f float64, rest string, ok bool) {
	end := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(s)
	}
	f, err := strconv.ParseFloat(s[:end], 64)
	return f, s[end:], err == nil
}

// scaled reads a number with one of the units, or with none, which multiplies by bare. The result is whole:
// it is rounded to the nearest integer.
func scaled(s string, units []unit, bare float64) (float64, bool) {
	f, rest, ok := number(s)
	if !ok {
		return 0, false
	}
	if rest == "" {
		return math.Round(f * bare), true
	}
	for _, u := range units {
		if strings.EqualFold(u.name, rest) {
			return math.Round(f * u.scale), true
		}
	}
	return 0, false
}

// decimal writes n divided by scale, a power of ten, exactly.
func decimal(n, scale uint64) string {
	s := strconv.FormatUint(n/scale, 10)
	if n%scale == 0 {
		return s
	}
	fraction := strconv.FormatUint(n%scale+scale, 10)[1:]
	return s + "." + strings.TrimRight(fraction, "0")
}

// formatTime writes a time in its largest unit, exactly: 1.5ms.
func formatTime(d time.Duration) string {
	switch n := uint64(d); {
	case d < 0:
		return "-" + formatTime(-d)
	case d == 0:
		return "0s"
	case d < time.Microsecond:
		return decimal(n, 1) + "ns"
	case d < time.Millisecond:
		return decimal(n, 1e3) + "us"
	case d < time.Second:
		return decimal(n, 1e6) + "ms"
	default:
		return decimal(n, 1e9) + "s"
	}
}

// formatRate writes bits a second in the largest unit, exactly: 1.5mbit.
func formatRate(bits uint64) string {
	switch {
	case bits < 1e3:
		return decimal(bits, 1) + "bit"
	case bits < 1e6:
		return decimal(bits, 1e3) + "kbit"
	case bits < 1e9:
		return decimal(bits, 1e6) + "mbit"
	case bits < 1e12:
		return decimal(bits, 1e9) + "gbit"
	default:
		return decimal(bits, 1e12) + "tbit"
	}
}

func formatPercent(p Percent) string {
	return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%"
}
