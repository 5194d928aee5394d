package capture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// files lists a directory, with how many packets each capture has; all of them must be whole.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got, r := readAll(t, bytes.NewReader(b))
		if len(got) > 0 && r.Interfaces()[got[0].Interface].Name != "cat1" {
			t.Errorf("%s: the packets are of %v", e.Name(), r.Interfaces())
		}
		list = append(list, fmt.Sprintf("%s:%d", e.Name(), len(got)))
	}
	return list
}

func TestRotation(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    Rotation
		want string
	}{
		{"none", Rotation{Keep: 2}, "[trace.pcapng:9]"},
		{"size", Rotation{MaxBytes: 1500}, "[trace_00001.pcapng:2 trace_00002.pcapng:2 trace_00003.pcapng:2 trace_00004.pcapng:2 trace_00005.pcapng:1]"},
		{"size of less than a packet", Rotation{MaxBytes: 1, Keep: 2}, "[trace_00008.pcapng:1 trace_00009.pcapng:1]"},
		{"time", Rotation{MaxAge: 3 * time.Second}, "[trace_00001.pcapng:3 trace_00002.pcapng:3 trace_00003.pcapng:3]"},
		{"time and size, few kept", Rotation{MaxBytes: 1500, MaxAge: 3 * time.Second, Keep: 3}, "[trace_00003.pcapng:2 trace_00004.pcapng:2 trace_00005.pcapng:1]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			w, err := Create(filepath.Join(dir, "trace.pcapng"), Config{}, tt.r)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"cat0", "cat1"} {
				if _, err := w.AddInterface(Interface{Name: name}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 9 {
				if err := w.WritePacket(Packet{Time: epoch.Add(time.Duration(i) * time.Second), Interface: 1, Data: tcpPacket(t, false, 1, 500)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(files(t, dir)); got != tt.want {
				t.Errorf("files %s, want %s", got, tt.want)
			}
			for _, e := range must(os.ReadDir(dir)) {
				if i, _ := e.Info(); tt.r.MaxBytes > 1 && i.Size() > tt.r.MaxBytes+200 { // the statistics at the end
					t.Errorf("%s has %d bytes", e.Name(), i.Size())
				}
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestRotationFails: a directory that is not there any more ends the capture with an error.
func TestRotationFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if _, err := Create(filepath.Join(dir, "trace.pcapng"), Config{}, Rotation{}); !os.IsNotExist(err) {
		t.Errorf("Create in a missing directory: %v", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := Create(filepath.Join(dir, "trace.pcapng"), Config{}, Rotation{MaxBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.AddInterface(Interface{Name: "cat0"}); err != nil {
		t.Fatal(err)
	}
	if err := w.WritePacket(Packet{Data: tcpPacket(t, false, 1, 4)}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+"2"); err != nil {
		t.Skipf("this system does not rename a directory with open files: %v", err)
	}
	if err := w.WritePacket(Packet{Data: tcpPacket(t, false, 1, 4)}); err == nil {
		t.Error("nobody noticed that the next file could not be made")
	}
}
