package drill

import (
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/catflap/catflap/internal/virtual"
)

// writePCAPNG writes the packets of all results, each result as an interface with the script's name.
func writePCAPNG(w io.Writer, results []Result) error {
	if len(results) == 0 {
		return nil
	}
	iface := func(r Result) pcapgo.NgInterface {
		return pcapgo.NgInterface{
			Name:                r.Script,
			Description:         string(r.Target) + ": " + string(r.Status),
			LinkType:            layers.LinkTypeRaw,
			TimestampResolution: 9,
		}
	}
	ng, err := pcapgo.NewNgWriterInterface(w, iface(results[0]), pcapgo.NgWriterOptions{
		SectionInfo: pcapgo.NgSectionInfo{Application: "catflap drill"},
	})
	if err != nil {
		return err
	}
	for i, r := range results {
		if i > 0 {
			if _, err := ng.AddInterface(iface(r)); err != nil {
				return err
			}
		}
		for _, s := range r.wire {
			ci := gopacket.CaptureInfo{
				Timestamp:      virtual.Epoch.Add(s.at.Truncate(time.Nanosecond)),
				CaptureLength:  len(s.data),
				Length:         len(s.data),
				InterfaceIndex: i,
			}
			direction := pcapgo.NgEpbFlagDirectionInbound
			if s.dir == Out {
				direction = pcapgo.NgEpbFlagDirectionOutbound
			}
			opts := pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: direction}, Comments: []string{s.text()}}
			if err := ng.WritePacketWithOptions(ci, s.data, opts); err != nil {
				return err
			}
		}
	}
	return ng.Flush()
}
