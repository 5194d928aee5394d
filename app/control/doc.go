// Package control is how other processes look at a running catflap and change
// it: JSON over HTTP/1.1 on a unix socket that only its owner can open.
//
// [Serve] makes the socket beside a [stack.Stack]; [NewClient] speaks to it. What
// goes over the wire are the stack's own types. Every path begins with the API's
// version; a client and a server of different versions say so plainly.
//
//	GET            /v2/info
//	GET POST DELETE /v2/rules      ?family=inet|inet6
//	GET POST DELETE PUT /v2/routes ?family=…&table=N
//	POST           /v2/routes/append
//	GET            /v2/links
//	POST DELETE    /v2/addrs
//	GET            /v2/sockets
//	GET            /v2/lookup/route  ?dst=&src=&iif=&oif=
//	GET            /v2/lookup/socket ?network=&src=&dst=
//	GET            /v2/lookup/packet ?network=&src=&dst=&iif=
//	GET POST DELETE /v2/steering
//	GET PUT DELETE /v2/netem
//	POST DELETE    /v2/netem/rules
//	GET            /v2/drops
//	GET            /v2/events  ?kinds=calls,packets,states,links,samples,timers&snap=BYTES  one JSON object a line
package control
