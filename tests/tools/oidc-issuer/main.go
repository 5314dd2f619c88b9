// Command oidc-issuer issues the identity tokens that the tests ask for.
//
// Every first segment of a path is an issuer of its own, all with one key:
// http://HOST/NAME has /NAME/.well-known/openid-configuration, /NAME/keys and
// /NAME/token. The query of /NAME/token becomes the token's claims; `true` and
// `false` are taken for booleans. The first line on stdout is the address.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"
)

const keyID = "tests"

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen at")
	flag.Parse()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	issuers := issuers{key: key, base: "http://" + listener.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{issuer}/.well-known/openid-configuration", issuers.configuration)
	mux.HandleFunc("GET /{issuer}/keys", issuers.keys)
	mux.HandleFunc("GET /{issuer}/token", issuers.token)
	log.Fatal(http.Serve(listener, mux))
}

type issuers struct {
	key  *ecdsa.PrivateKey
	base string
}

func (i issuers) url(r *http.Request) string {
	return i.base + "/" + r.PathValue("issuer")
}

func (i issuers) configuration(w http.ResponseWriter, r *http.Request) {
	url := i.url(r)
	answer(w, map[string]any{
		"issuer":                                url,
		"jwks_uri":                              url + "/keys",
		"authorization_endpoint":                url + "/auth",
		"token_endpoint":                        url + "/token",
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
	})
}

func (i issuers) keys(w http.ResponseWriter, _ *http.Request) {
	point, err := i.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": keyID,
		"x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
}

func (i issuers) token(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	claims := map[string]any{
		"iss": i.url(r), "aud": "sigstore", "sub": "somebody",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}
	for name, values := range r.URL.Query() {
		switch values[0] {
		case "true", "false":
			claims[name] = values[0] == "true"
		default:
			claims[name] = values[0]
		}
	}
	text, err := i.sign(claims)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, text)
}

// sign makes a JSON Web Signature with ES256.
func (i issuers) sign(claims map[string]any) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": "ES256", "typ": "JWT", "kid": keyID})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := encode(header) + "." + encode(payload)
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature[:]), nil
}

func encode(bytes []byte) string {
	return base64.RawURLEncoding.EncodeToString(bytes)
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value)
}
