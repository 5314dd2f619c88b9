module podseal.test/tools/oidc-issuer

go 1.26.0
