package impair

// Stats counts what was done to the packets of one direction since the Link was made. Packets are those of
// the wire, after super-packets were cut; what passed while the direction was off is not counted.
type Stats struct {
	Packets uint64 `json:"packets"` // that came
	Bytes   uint64 `json:"bytes"`   // of their IP packets
	Cut     uint64 `json:"cut"`     // super-packets that came as several packets

	Lost      uint64 `json:"lost"`       // by the loss model
	OverLimit uint64 `json:"over_limit"` // lost because the queue was full
	Faulted   uint64 `json:"faulted"`    // lost by rules, or by a replayed rule
	Caught    uint64 `json:"caught"`     // corrupted, and found to be by a checksum
	Refused   uint64 `json:"refused"`    // that the link below would not take

	Delayed    uint64 `json:"delayed"`    // held for some time
	Duplicated uint64 `json:"duplicated"` // of which a copy was made
	Corrupted  uint64 `json:"corrupted"`  // one bit of which was flipped
	Reordered  uint64 `json:"reordered"`  // sent ahead of those that wait

	Faults   uint64 `json:"faults"`   // actions of rules
	Answered uint64 `json:"answered"` // packets that rules sent back: resets and ICMP errors

	Passed      uint64 `json:"passed"`       // handed on, copies and answers included
	PassedBytes uint64 `json:"passed_bytes"` // of their IP packets
	Queued      int    `json:"queued"`       // waiting now
	Dropped     uint64 `json:"dropped"`      // waiting when the Link was closed
}
