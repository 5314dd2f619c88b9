package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// basicAuth asks for Basic credentials on every request.
type basicAuth struct {
	rules rules
	next  http.Handler
}

func (a basicAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	action, repository := wanted(r)
	name, password, sent := r.BasicAuth()
	if sent && !a.rules.known(name, password) {
		refuse(w, `Basic realm="referrers-registry"`, "UNAUTHORIZED")
		return
	}
	allowed := a.rules.allows(name, action, repository)
	if repository == "" {
		allowed = sent && action == pull
	}
	if !allowed {
		refuse(w, `Basic realm="referrers-registry"`, "UNAUTHORIZED")
		return
	}
	a.next.ServeHTTP(w, r)
}

// tokenAuth asks for Bearer tokens, and hands them out at /token as the
// distribution project's token protocol has it.
type tokenAuth struct {
	rules          rules
	realm, service string
	ttl            time.Duration
	next           http.Handler

	issued sync.Map // token -> token's grants
}

// grants of one token: scopes such as `repository:a/b:pull`, each with one action.
type grants struct {
	scopes  map[string]bool
	expires time.Time
}

func (a *tokenAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		a.token(w, r)
		return
	}
	action, repository := wanted(r)
	challenge := fmt.Sprintf("Bearer realm=%q,service=%q", a.realm, a.service)
	if repository != "" {
		actions := pull
		if action == push {
			actions = pull + "," + push
		}
		challenge += fmt.Sprintf(",scope=\"repository:%s:%s\"", repository, actions)
	}
	held, good := a.grants(r)
	switch {
	case !good:
		if r.Header.Get("Authorization") != "" {
			challenge += `,error="invalid_token"`
		}
		refuse(w, challenge, "UNAUTHORIZED")
	case repository != "" && !held.scopes[scope(repository, action)]:
		refuse(w, challenge+`,error="insufficient_scope"`, "DENIED")
	default:
		a.next.ServeHTTP(w, r)
	}
}

// grants finds the token of a request among those issued and still good.
func (a *tokenAuth) grants(r *http.Request) (grants, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	found, ok := a.issued.Load(token)
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return grants{}, false
	}
	held := found.(grants)
	return held, time.Now().Before(held.expires)
}

// token answers GET /token?service=…&scope=repository:NAME:ACTIONS. It grants
// the part of what was asked that the account may have, which may be nothing:
// the registry then answers insufficient_scope.
func (a *tokenAuth) token(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		// Clients that try OAuth2's POST first fall back to GET on this answer.
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	name, password, sent := r.BasicAuth()
	if (sent && !a.rules.known(name, password)) || (!sent && len(a.rules.anonymous) == 0) {
		refuse(w, `Basic realm="referrers-registry"`, "UNAUTHORIZED")
		return
	}
	now := time.Now()
	held := grants{scopes: map[string]bool{}, expires: now.Add(a.ttl)}
	for _, asked := range strings.Fields(strings.Join(r.URL.Query()["scope"], " ")) {
		a.grant(held, name, asked)
	}
	token := rand.Text()
	a.issued.Store(token, held)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"token":        token,
		"access_token": token,
		"expires_in":   int(a.ttl.Seconds()),
		"issued_at":    now.UTC().Format(time.RFC3339),
	})
}

func (a *tokenAuth) grant(held grants, name, asked string) {
	kind, rest, _ := strings.Cut(asked, ":")
	last := strings.LastIndex(rest, ":")
	if kind != "repository" || last < 0 {
		return
	}
	repository := rest[:last]
	for _, action := range strings.Split(rest[last+1:], ",") {
		if (action == pull || action == push) && a.rules.allows(name, action, repository) {
			held.scopes[scope(repository, action)] = true
		}
	}
}

func scope(repository, action string) string {
	return "repository:" + repository + ":" + action
}
