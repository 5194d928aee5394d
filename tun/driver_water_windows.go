package tun

import "github.com/songgao/water"

// openWaterQueue opens the first tap-windows6 adapter.
func openWaterQueue(cfg Config) (*water.Interface, error) {
	if cfg.Queues > 1 {
		return nil, &ConfigError{"queues", cfg.Queues, "1 on Windows"}
	}
	config := water.Config{DeviceType: water.TUN}
	config.ComponentID = "tap0901"
	config.Network = "10.9.0.1/24"
	ifce, err := water.New(config)
	if err != nil {
		return nil, waterError(cfg, err)
	}
	return ifce, nil
}
