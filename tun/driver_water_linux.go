package tun

import "github.com/songgao/water"

func openWaterQueue(cfg Config) (*water.Interface, error) {
	ifce, err := water.New(water.Config{
		DeviceType:             water.TUN,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: cfg.Name, MultiQueue: cfg.Queues > 1},
	})
	if err != nil {
		return nil, waterError(cfg, err)
	}
	return ifce, nil
}
