package drill

import "sort"

// maxTypos is how many letters a word may be off to be taken for a slip.
const maxTypos = 2

// didYouMean ends a message about a word that is not known: "; did you mean read?" if one of the known words is near.
func didYouMean(word string, known []string) string {
	best, typos := "", maxTypos+1
	sort.Strings(known)
	for _, k := range known {
		if d := distance(word, k); d < typos && 2*d < len(word) {
			best, typos = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is how many letters must be inserted, removed or replaced to turn one word into the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1) // distances of a's beginning to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
