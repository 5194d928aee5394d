package tun

import "github.com/songgao/water"

func openWaterQueue(cfg Config) (*water.Interface, error) {
	if cfg.Queues > 1 {
		return nil, &ConfigError{"queues", cfg.Queues, "1 on macOS"}
	}
	params := water.PlatformSpecificParams{Name: cfg.Name}
	if cfg.Name == DefaultName {
		params.Name = "" // utun with the next free number: macOS knows no other names
	}
	ifce, err := water.New(water.Config{DeviceType: water.TUN, PlatformSpecificParams: params})
	if err != nil {
		return nil, waterError(cfg, err)
	}
	return ifce, nil
}
