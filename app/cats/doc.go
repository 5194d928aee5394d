// Package cats is the cat server: what an application sees of the userspace
// stack is an ordinary net.Listener, and this package is that application.
//
// It serves HTTP/1.1 on any net.Listener, a kernel one or one of a userspace
// stack, and knows neither. What only the owner of the listener can tell about
// a connection comes in through [Config.ConnInfo].
//
//	GET  /             Hello kitty!
//	GET  /cat          the cat of this connection (SVG or PNG by Accept, /cat.svg, /cat.png)
//	GET  /cat/{seed}   the cat of that seed (also {seed}.svg and {seed}.png)
//	GET  /cats         a gallery of cats
//	GET  /bytes/{n}    n bytes of [Pattern], with ranges
//	POST /upload       counts and hashes the body; PUT does the same
//	GET  /conn         what is known about the requester's connection
//	GET  /healthz      200, or 503 while the server drains
//
// A cat is drawn from its seed alone: [Meet] turns a seed into traits, and the
// drawing is one vector scene that is written as SVG or rasterised to PNG.
package cats
