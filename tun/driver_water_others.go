//go:build !linux && !darwin && !windows

package tun

import "github.com/songgao/water"

func openWaterQueue(cfg Config) (*water.Interface, error) {
	return nil, &OpError{Op: OpOpen, Name: cfg.Name, Err: unsupported("a TUN device")}
}
