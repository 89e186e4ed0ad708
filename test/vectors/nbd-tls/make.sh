#!/bin/sh
# Makes the keys and certificates of this folder anew. Usage: ./make.sh (needs openssl >= 1.1.1).
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 \
    -subj "/CN=$1" -keyout "$work/$1-key.pem" -out "$2" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
}
member() { # NAME CA-NAME CA-CERT
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
    -keyout "$1-key.pem" -out "$work/$1.csr"
  printf '%s\n' subjectAltName=DNS:localhost,IP:127.0.0.1 basicConstraints=CA:FALSE \
    extendedKeyUsage=serverAuth,clientAuth keyUsage=critical,digitalSignature > "$work/ext"
  openssl x509 -req -in "$work/$1.csr" -CA "$3" -CAkey "$work/$2-key.pem" -CAcreateserial \
    -CAserial "$work/serial" -days 36500 -extfile "$work/ext" -out "$1-cert.pem"
}
authority test-authority ca-cert.pem
authority stranger "$work/stranger-cert.pem"
member server test-authority ca-cert.pem
member client test-authority ca-cert.pem
member stranger stranger "$work/stranger-cert.pem"
