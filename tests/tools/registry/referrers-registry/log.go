package main

import (
	"fmt"
	"net/http"
	"os"
)

// requestLog writes a request's line before the first byte of its response
// goes out, so that a client that has its answer finds the line in the file.
// PATH is the request target as sent, with its query.
type requestLog struct {
	file *os.File
	next http.Handler
}

func (l requestLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	authorized := "no"
	if r.Header.Get("Authorization") != "" {
		authorized = "yes"
	}
	logged := &loggedResponse{ResponseWriter: w, line: func(status int) {
		// One write with O_APPEND: lines of concurrent requests never mix.
		fmt.Fprintf(l.file, "%s %s %d %s\n", r.Method, r.URL.RequestURI(), status, authorized)
	}}
	l.next.ServeHTTP(logged, r)
	if !logged.done {
		logged.WriteHeader(http.StatusOK)
	}
}

type loggedResponse struct {
	http.ResponseWriter
	line func(status int)
	done bool
}

func (w *loggedResponse) WriteHeader(status int) {
	if !w.done {
		w.done = true
		w.line(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *loggedResponse) Write(data []byte) (int, error) {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(data)
}
