package cats_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/catflap/catflap/app/cats"
)

// Any net.Listener does; this one is the kernel's.
func ExampleServer() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := cats.NewServer(cats.Config{})
	served := make(chan error)
	go func() { served <- s.Serve(l) }()

	resp, err := http.Get("http://" + l.Addr().String() + "/")
	if err != nil {
		log.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	fmt.Printf("%s\n", body)

	http.DefaultClient.CloseIdleConnections()
	fmt.Println(s.Shutdown(context.Background()))
	fmt.Println(<-served)
	// Output:
	// Hello kitty!
	// <nil>
	// http: Server closed
}

func ExampleServer_Handler() {
	h := cats.NewServer(cats.Config{}).Handler()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", http.NoBody))
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 ok
}

func ExampleMeet() {
	c := cats.Meet("luna")
	fmt.Println(c)
	fmt.Println(len(c.SVG()) > 0)
	// Output:
	// Tofu, a short-haired cream cat with round odd (blue and copper) eyes, tufted ears and a bobbed tail, standing
	// true
}

func ExampleCheckPattern() {
	// What a client does with the answer to /bytes/1000000 and a range from 5000.
	var got bytes.Buffer
	io.Copy(&got, io.NewSectionReader(cats.NewPattern(1000000), 5000, 1460))
	fmt.Println(cats.CheckPattern(got.Bytes(), 5000))
	got.Bytes()[700] ^= 0xff
	fmt.Println(cats.CheckPattern(got.Bytes(), 5000))
	// Output:
	// -1
	// 700
}
