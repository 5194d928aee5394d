// Package control is how other processes look at a running catflap and change
// it: JSON over HTTP/1.1 on a unix socket that only its owner can open.
//
// [Serve] makes the socket beside a [stack.Stack]; [NewClient] speaks to it. What
// goes over the wire are the stack's own types. Every path begins with the API's
// version; a client and a server of different versions say so plainly.
//
//	GET            /v1/info
//	GET POST DELETE /v1/rules      ?family=inet|inet6
//	GET POST DELETE PUT /v1/routes ?family=…&table=N
//	GET            /v1/links
//	POST DELETE    /v1/addrs
//	GET            /v1/sockets
//	GET            /v1/lookup/route  ?dst=&src=&iif=&oif=
//	GET            /v1/lookup/socket ?network=&src=&dst=
//	GET            /v1/lookup/packet ?network=&src=&dst=&iif=
//	GET POST DELETE /v1/steering
//	GET PUT DELETE /v1/netem
//	POST DELETE    /v1/netem/rules
//	GET            /v1/drops
//	GET            /v1/events  ?kinds=calls,packets,states,links,samples,timers&snap=BYTES  one JSON object a line
package control
