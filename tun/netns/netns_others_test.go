//go:build !linux

package netns

import (
	"context"
	"errors"
	"testing"
)

func TestUnsupported(t *testing.T) {
	if _, err := Start(context.Background(), Config{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Start: %v, want errors.ErrUnsupported", err)
	}
}
