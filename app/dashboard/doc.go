// Package dashboard is a live web page about a stack: its connections, each with its packets, states, calls and
// windows, and the path that packets take.
//
// A [Recorder] keeps the newest events of a stack, or of a recording, within fixed limits. A [Server] answers a
// browser from it: the page itself, which is embedded, and below /api/ JSON and one stream of server-sent events.
//
//	GET  /api/info
//	GET  /api/overview
//	GET  /api/connections   ?closed=1
//	GET  /api/stream        ?conn=ID
//	GET  /api/packet/{seq}
//	GET  /api/capture       ?conn=ID
//	POST /api/token
//	POST /api/netem
//	POST /api/rules
//	DELETE /api/rules/{id}
//	POST /api/transfer
//
// Whoever reaches the listener may look. Only requests that name a host of the server are answered, so that no other
// site's page can look by pointing its own name here (DNS rebinding), and changes need a token besides. Payload is
// neither kept nor shown unless the configuration says so.
package dashboard
