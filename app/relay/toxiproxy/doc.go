// Package toxiproxy answers Toxiproxy's HTTP API (github.com/Shopify/toxiproxy) for
// proxies whose links are real: what its toxics ask for is done to packets where that has
// a meaning, and to the connection's bytes where it has none.
//
//	latency      the link's delay and jitter
//	bandwidth    the link's rate, which all connections of the proxy share
//	netem        {"settings": "loss 2% delay 20ms"}: any settings of the link
//	rule         {"rule": "drop tcp data 2"}: a fault at exactly the packets it names
//	slow_close   the FIN waits
//	timeout      nothing more is read, so that the window closes; after the time, both sides see the end
//	reset_peer   an RST to both sides, after the first data
//	slicer       data enters the link in small segments
//	limit_data   both sides see the end after so many bytes
//
// The first four are of the link, and so of every connection: a toxicity below 1 is
// refused. "upstream" is to the server, "downstream" from it.
//
// It differs from Toxiproxy in what no network does: data that a timeout holds back is not
// dropped from the middle of the stream, and comes when the toxic is removed.
package toxiproxy
