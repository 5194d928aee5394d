package cats

import (
	"mime"
	"strconv"
	"strings"
)

// negotiate picks from offers, in the server's order of preference, the media
// type an Accept header likes best (RFC 9110, section 12.5.1): the highest
// quality wins, then the one that was named more precisely, then the earlier
// offer. It returns "" when none is acceptable. No header means anything goes.
// Parts of the header that do not parse are passed over.
func negotiate(accept []string, offers ...string) string {
	header := strings.Join(accept, ",")
	if strings.TrimSpace(header) == "" {
		return offers[0]
	}
	ranges := strings.Split(header, ",")
	best, bestQ, bestPrecision := "", 0.0, 0
	for _, offer := range offers {
		// The most precise range that matches decides the offer's quality.
		q, precision := 0.0, 0
		for _, r := range ranges {
			mediaRange, rq, ok := parseRange(r)
			if !ok {
				continue
			}
			if p := matchPrecision(mediaRange, offer); p > precision {
				q, precision = rq, p
			}
		}
		if q > bestQ || q == bestQ && q > 0 && precision > bestPrecision {
			best, bestQ, bestPrecision = offer, q, precision
		}
	}
	return best
}

// parseRange parses one element of an Accept header. Parameters other than q
// belong to the media type; none of our offers has any, so a range that asks
// for some does not match.
func parseRange(s string) (mediaRange string, q float64, ok bool) {
	mediaRange, params, err := mime.ParseMediaType(s)
	if err != nil {
		return "", 0, false
	}
	q = 1
	for name, value := range params {
		if name != "q" {
			return "", 0, false
		}
		// RFC 9110, section 12.4.2: 0 to 1.
		if q, err = strconv.ParseFloat(value, 64); err != nil || !(q >= 0 && q <= 1) {
			return "", 0, false
		}
	}
	return mediaRange, q, true
}

// matchPrecision returns 3 if mediaRange names offer, 2 if it names its type,
// 1 if it is */*, and 0 if it does not match.
func matchPrecision(mediaRange, offer string) int {
	major, _, _ := strings.Cut(offer, "/")
	switch mediaRange {
	case offer:
		return 3
	case major + "/*":
		return 2
	case "*/*":
		return 1
	}
	return 0
}
