package conformance

// knownFailures are the cells of the matrix in which netstack does not do what the RFC says, with what it does instead.
var knownFailures = map[string]string{
	"established/fin-gap":        "a FIN without data beyond a gap is not kept",
	"fin-wait-1/fin-gap":         "a FIN without data beyond a gap is not kept",
	"fin-wait-2/fin-gap":         "a FIN without data beyond a gap is not kept",
	"syn-received/rst-in-window": "no challenge ACK",
	"time-wait/old-syn":          "no answer",
}
