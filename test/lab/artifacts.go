package lab

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ArtifactsEnv is the environment variable that names the folder for what failing tests leave behind.
const ArtifactsEnv = "CATFLAP_ARTIFACTS"

// timelineFile is the name of the timeline's file.
const timelineFile = "timeline.txt"

// notInFolder is what a test's name may have and a folder's should not.
var notInFolder = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// artifacts returns the folder for what the test leaves behind, which exists.
func (l *Lab) artifacts() (string, error) {
	dir := l.opts.Artifacts
	name := notInFolder.ReplaceAllString(l.t.Name(), "-")
	if env := os.Getenv(ArtifactsEnv); dir == "" && env != "" {
		dir = filepath.Join(env, name)
	}
	if f := flag.Lookup("test.artifacts"); dir == "" && f != nil && f.Value.String() == "true" {
		dir = l.t.ArtifactDir()
	}
	if dir == "" {
		return os.MkdirTemp("", "catflap-lab-"+name+"-")
	}
	return dir, os.MkdirAll(dir, 0o777)
}

// write writes the timeline, and a pcapng file for each end of each link that packets have passed. It returns their names.
func (r *recorder) write(dir string, lines, lacks []string) (names []string, err error) {
	text := strings.Join(append(append([]string{}, lacks...), lines...), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(dir, timelineFile), []byte(text), 0o666); err != nil {
		return nil, err
	}
	names = append(names, timelineFile)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.captures {
		name := c.link + "@" + c.node + ".pcapng"
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return names, err
		}
		err = c.write(f)
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}
