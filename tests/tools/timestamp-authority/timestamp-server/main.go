// Command timestamp-server is sigstore's timestamp authority without what its
// own program adds: a page of metrics at a port that cannot be chosen, for want
// of which a second one on the same machine ends at once.
//
// At a second address it stamps bytes with any time that is asked for:
// POST /at?time=2026-01-02T03:04:05Z with the bytes as the body is answered by
// a timestamp response (RFC 3161) of the authority's own key. With
// &certificate=FILE it names another certificate for that key. Only tests want
// that.
package main

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/timestamp-authority/v2/pkg/server"
	"github.com/spf13/viper"
)

const policy = "1.3.6.1.4.1.57264.2"

func main() {
	host := flag.String("host", "127.0.0.1", "address to listen at")
	port := flag.Int("port", 0, "port of the authority")
	anyTime := flag.Int("any-time-port", 0, "port that stamps with any time")
	key := flag.String("key", "", "file of the key, PKCS#8 PEM")
	chain := flag.String("chain", "", "file of the certificates, PEM, the authority's own first")
	flag.Parse()
	if err := run(*host, *port, *anyTime, *key, *chain); err != nil {
		log.Fatal(err)
	}
}

func run(host string, port, anyTime int, key, chain string) error {
	stamper, err := newStamper(key, chain)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, anyTime))
	if err != nil {
		return err
	}
	go func() { log.Fatal(http.Serve(listener, stamper)) }()
	for name, value := range map[string]any{
		"timestamp-signer":         "file",
		"timestamp-signer-hash":    "sha256",
		"file-signer-key-path":     key,
		"certificate-chain-path":   chain,
		"enforce-intermediate-eku": true,
		"default-policy-oid":       policy,
		"accepted-policy-oids":     []string{policy},
		"max-request-body-size":    1 << 20,
	} {
		viper.Set(name, value)
	}
	authority := server.NewRestAPIServer(host, port, []string{"http"}, false, time.Minute, time.Minute)
	defer authority.Shutdown()
	return authority.Serve()
}

// stamper stamps with any time.
type stamper struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newStamper(keyFile, chainFile string) (*stamper, error) {
	block, err := firstBlock(keyFile)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: not a signing key", keyFile)
	}
	cert, err := certificate(chainFile)
	return &stamper{key, cert}, err
}

func certificate(file string) (*x509.Certificate, error) {
	block, err := firstBlock(file)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(block)
}

func firstBlock(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", file)
	}
	return block.Bytes, nil
}

func (s *stamper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at, err := time.Parse(time.RFC3339, r.URL.Query().Get("time"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var body bytes.Buffer
	if _, err := io.Copy(&body, http.MaxBytesReader(w, r.Body, 1<<20)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	cert := s.cert
	if file := r.URL.Query().Get("certificate"); file != "" {
		if cert, err = certificate(file); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	digest := sha256.Sum256(body.Bytes())
	token := timestamp.Timestamp{
		HashAlgorithm:     crypto.SHA256,
		HashedMessage:     digest[:],
		Time:              at.UTC(),
		Policy:            asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2},
		AddTSACertificate: true,
	}
	response, err := token.CreateResponseWithOpts(cert, s.key, crypto.SHA256)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	w.Write(response)
}
