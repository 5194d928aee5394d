// Package relay joins connections, flows of datagrams and echo requests of the
// userspace stack with those of the host, or of another stack, so that what is on one
// side is on the other: its data, its end, its reset, its errors.
//
// A [Relay] is what others are made of:
//
//	outbound   a stack's forwarder ([stack.Stack.Forward]) with [Relay.TCP], [Relay.UDP] and [Relay.Echo], and a [Host]
//	inbound    a listener of the host, and a dial on the stack: [Relay.Serve]
//	both       two connections that are there already: [Relay.Join]
//
// What holds for every joined connection:
//
//   - The end of data on one side (FIN) is the end of data on the other, each way by
//     itself. Both are closed when both ways have ended.
//   - A reset on one side is a reset on the other, after the data that came before it.
//   - There is one buffer each way. Who does not read keeps the other side from
//     sending, through the windows of both connections.
//   - A SYN that came through a forwarder is answered when the dial has succeeded; with
//     an RST if it was refused; and not at all if the client has gone meanwhile, which
//     ends the dial.
//   - A connection on which nothing passes for [Config.Idle] is reset.
package relay
