// Stands in for the three programs of the "sentences" application that compose's suite starts: /dispatcher answers on
// port 80 and passes /words/… on to the service "words"; java answers on port 8080 with a word once "db" resolves; db
// accepts on port 5432. The name that it is started by says which one it is.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

func dispatch(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/words/") {
		fmt.Fprintln(w, "<h1>Sentences</h1>")
		return
	}
	answer, err := http.Get("http://words:8080/" + strings.TrimPrefix(r.URL.Path, "/words/"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(answer.StatusCode)
	io.Copy(w, answer.Body)
}

func word(w http.ResponseWriter, r *http.Request) {
	connection, err := net.Dial("tcp", "db:5432")
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	connection.Close()
	fmt.Fprintf(w, `{"word":"%s of the day"}`, strings.Trim(r.URL.Path, "/"))
}

func main() {
	switch filepath.Base(os.Args[0]) {
	case "dispatcher":
		log.Fatal(http.ListenAndServe(":80", http.HandlerFunc(dispatch)))
	case "java":
		log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(word)))
	default:
		listener, err := net.Listen("tcp", ":5432")
		if err != nil {
			log.Fatal(err)
		}
		for {
			connection, err := listener.Accept()
			if err != nil {
				log.Fatal(err)
			}
			connection.Close()
		}
	}
}
