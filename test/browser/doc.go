// Package browser tests the dashboard's page in a real browser, headless Chromium: against catflap itself, and
// against a made-up feed where a test needs events that no real network gives on demand.
package browser
