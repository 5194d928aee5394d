package ip

import (
	"bytes"
	"encoding/json"
	"strings"
)

// object is a JSON object whose keys keep their order, as iproute2 prints them.
type object []field

type field struct {
	key   string
	value any // a string, number, bool, []string, object or []object
}

func (o *object) add(key string, value any) { *o = append(*o, field{key, value}) }

// formatJSON writes objects as `ip -j` does, or with pretty as `ip -j -p`.
func formatJSON(objects []object, pretty bool) []byte {
	var b bytes.Buffer
	w := jsonWriter{&b, pretty}
	w.objects(objects, 0)
	b.WriteByte('\n')
	return b.Bytes()
}

type jsonWriter struct {
	*bytes.Buffer
	pretty bool
}

// line begins a new line at a depth of indentation.
func (w jsonWriter) line(depth int) {
	if w.pretty {
		w.WriteString("\n" + strings.Repeat("    ", depth))
	}
}

// list writes the elements of an array. Only pretty output has spaces inside the
// brackets.
func (w jsonWriter) list(n int, element func(i int)) {
	open, between, end := "[", ",", "]"
	if w.pretty {
		open, end = "[ ", " ]"
		if n == 0 {
			open, end = "[ ", "]"
		}
	}
	w.WriteString(open)
	for i := range n {
		if i > 0 {
			w.WriteString(between)
		}
		element(i)
	}
	w.WriteString(end)
}

func (w jsonWriter) objects(os []object, depth int) {
	w.list(len(os), func(i int) { w.object(os[i], depth) })
}

func (w jsonWriter) object(o object, depth int) {
	w.WriteByte('{')
	for i, f := range o {
		if i > 0 {
			w.WriteByte(',')
		}
		w.line(depth + 2)
		w.WriteString(`"` + f.key + `":`)
		if w.pretty {
			w.WriteByte(' ')
		}
		w.value(f.value, depth+2)
	}
	w.line(depth + 1)
	w.WriteByte('}')
}

func (w jsonWriter) value(v any, depth int) {
	switch v := v.(type) {
	case object:
		w.object(v, depth)
	case []object:
		w.objects(v, depth)
	case []string:
		w.list(len(v), func(i int) { w.scalar(v[i]) })
	default:
		w.scalar(v)
	}
}

func (w jsonWriter) scalar(v any) {
	b, _ := json.Marshal(v) // strings, numbers and bools always can be written
	w.Write(b)
}
