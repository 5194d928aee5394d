package dashboard

import "time"

// Limits of what is kept. An event takes some 600 bytes, with its packet's headers and the list it stands in.
const (
	maxEvents      = 100_000 // of all connections: 60 MB
	maxConnEvents  = 20_000  // of one connection: some 10 MB sent in segments, each with its ACK and sample
	keptBeginning  = 500     // of those, that are the connection's first: handshake, request, slow start
	maxConnections = 2_000   // as many rows as a page can sort and filter while they change
	maxCalls       = 200     // calls that belong to no connection: socket, bind, listen of a busy program
	maxStray       = 2_000   // packets of no TCP connection: UDP, ICMP, fragments

	maxViewConnections = 20_000 // of a recording, whose rows are sent but once
)

// Limits of what is answered.
const (
	maxSockets = 2_000    // rows of an overview
	maxRoutes  = 200      // lines of an overview; rules too
	maxBatch   = 2_000    // events of one message: half a megabyte of JSON
	maxConns   = 64       // HTTP connections at once: ten pages with the six that a browser opens
	maxStreams = 16       // of those, streams: each costs a look at the recorder every batchInterval
	maxBody    = 16 << 10 // bytes of a request
	maxHeader  = 16 << 10 // bytes of its header
)

// Times.
const (
	batchInterval    = 50 * time.Millisecond  // between messages of one stream: smooth to the eye
	overviewInterval = 500 * time.Millisecond // between overviews
	heartbeat        = 15 * time.Second       // of a stream with nothing to say, before proxies give up
	headerTimeout    = 5 * time.Second        // for a request's header to arrive
	bodyTimeout      = 10 * time.Second       // for a request's body
	answerTimeout    = 10 * time.Second       // for a client to take an answer, or one message of a stream
	goodbyeTimeout   = 500 * time.Millisecond // for a client to hear that the server closes
	downloadTimeout  = 2 * time.Minute        // for a client to take a whole capture
	idleTimeout      = time.Minute            // of a kept-alive connection
	watchedFor       = time.Minute            // recording on demand goes on so long after the last stream: a reload, a look aside
)

// Bytes of each packet that the stack is asked for.
const (
	snapHeaders = 160 // IPv6 and TCP with all options, and some extension headers
	snapPayload = 512 // those, and the start of an HTTP request
)

// subscriptionBuffer is how many events may wait for the recorder: a tenth of a second of the fastest transfer.
const subscriptionBuffer = 1 << 15
