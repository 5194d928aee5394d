package dashboard

// Lengths of headers, in bytes.
const (
	ipv4Header = 20 // without options (RFC 791)
	ipv6Header = 40 // without extension headers (RFC 8200)
	tcpHeader  = 20 // without options (RFC 9293)
)

// transportAt is where the transport header of a packet starts that could be decoded.
func transportAt(b []byte) int {
	if b[0]>>4 == 4 {
		return int(b[0]&0xf) * 4
	}
	at := ipv6Header
	for next := b[6]; ; {
		switch next {
		case 0, 43, 60: // hop-by-hop options, routing, destination options
			next, at = b[at], at+8+8*int(b[at+1])
		case 44: // fragment
			next, at = b[at], at+8
		default:
			return at
		}
	}
}
