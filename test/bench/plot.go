package main

import "io"

func writePlot(w io.Writer, r *report, names []string, base string) error { return nil }
