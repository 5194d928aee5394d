package impair

// Shrink finds the faults that matter: given a recording of a run that fails, and a function that replays a
// recording and reports whether the run still fails, it returns a part of the recording with which it fails, and
// without any single fault of which it does not. The order of faults is kept. If fails is false of rec itself, it
// returns rec and false: the failure cannot be reproduced.
//
// This is delta debugging, the algorithm ddmin of Zeller and Hildebrandt, "Simplifying and Isolating
// Failure-Inducing Input" (2002): of n faults of which m matter it runs fails some m log n times if they lie well,
// and n² times at worst.
func Shrink(rec Recording, fails func(Recording) bool) (Recording, bool) {
	if !fails(rec) {
		return rec, false
	}
	if len(rec) == 0 || fails(Recording{}) {
		return Recording{}, true // it was none of the faults
	}
	parts := 2
	for len(rec) >= 2 {
		smaller, found := shrinkOnce(rec, parts, fails)
		switch {
		case !found && parts >= len(rec):
			return rec, true
		case !found:
			parts = min(2*parts, len(rec))
		case smaller.isPart:
			rec, parts = smaller.rec, 2
		default:
			rec, parts = smaller.rec, max(parts-1, 2)
		}
	}
	return rec, true
}

type smallerRecording struct {
	rec    Recording
	isPart bool // one part alone; else all but one
}

// shrinkOnce cuts rec into parts and returns one alone, or all but one, with which the run still fails.
func shrinkOnce(rec Recording, parts int, fails func(Recording) bool) (s smallerRecording, found bool) {
	bound := func(i int) int { return i * len(rec) / parts }
	for i := range parts {
		part := rec[bound(i):bound(i+1):bound(i+1)]
		if fails(part) {
			return smallerRecording{part, true}, true
		}
	}
	if parts == 2 {
		return s, false // the rest of one part is the other
	}
	for i := range parts {
		rest := append(append(Recording{}, rec[:bound(i)]...), rec[bound(i+1):]...)
		if fails(rest) {
			return smallerRecording{rest, false}, true
		}
	}
	return s, false
}
