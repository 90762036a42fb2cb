#!/bin/sh
# Certificates for etcd between KDCs, from a private authority made for nothing else.
#
#   etcd-certificates.sh DIRECTORY HOST[,ADDRESS...] ...
#
# For example, where everybody reaches the machines by these names and addresses:
#   etcd-certificates.sh certificates kdc1.example,192.0.2.1 kdc2.example,192.0.2.2 kdc3.example,192.0.2.3
#
# DIRECTORY/ca.pem is the authority and DIRECTORY/ca-key.pem its key, made if they are not there.
# DIRECTORY/HOST then has what the machine HOST needs, to be copied there as it is:
#   ca.pem                         whom to believe
#   member.pem, member-key.pem     of the member of etcd, to its clients and to other members
#   kdc.pem, kdc-key.pem           of the KDC, to etcd
# Nothing that is there is written over. For a machine more run it again, with that machine alone;
# for new certificates move the machine's directory away first. Whoever has ca-key.pem or any of
# the keys can read and write all of etcd: keep ca-key.pem off the machines.
#
# It needs openssl. DAYS=825 is how long certificates are good, ten years the authority.
set -eu
umask 077

fail() {
    printf 'etcd-certificates: %s\n' "$1" >&2
    exit 1
}

key() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$1"
}

# certificate FILE-WITHOUT-END USAGE NAMES: without a common name, which etcd would take for a user's.
certificate() {
    key "$1-key.pem"
    cat >"$work/extensions" <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $2
subjectAltName = $3
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END
    openssl req -new -sha256 -key "$1-key.pem" -subj "/O=etcd of the KDCs" -out "$work/request"
    openssl x509 -req -sha256 -in "$work/request" -CA "$directory/ca.pem" -CAkey "$directory/ca-key.pem" \
        -set_serial "0x$(openssl rand -hex 16)" -days "${DAYS:-825}" -extfile "$work/extensions" \
        -out "$1.pem" 2>"$work/said" || { cat "$work/said" >&2; fail 'openssl cannot make a certificate'; }
}

authority() {
    mkdir "$work/ca"
    key "$work/ca/ca-key.pem"
    openssl req -new -x509 -sha256 -key "$work/ca/ca-key.pem" -days 3650 -subj '/CN=etcd of the KDCs' \
        -addext 'basicConstraints = critical, CA:TRUE, pathlen:0' \
        -addext 'keyUsage = critical, keyCertSign' -out "$work/ca/ca.pem"
    # The key first: a certificate that is there has its key.
    ln "$work/ca/ca-key.pem" "$directory/ca-key.pem"
    ln "$work/ca/ca.pem" "$directory/ca.pem"
}

# names HOST,ADDRESS...: as the extension has them.
names() {
    printf '%s\n' "$1" | tr ',' '\n' | while read -r name; do
        case $name in
            *:*) printf 'IP:%s\n' "$name" ;;
            *[!0-9.]*) printf 'DNS:%s\n' "$name" ;;
            *) printf 'IP:%s\n' "$name" ;;
        esac
    done | paste -s -d, -
}

[ $# -ge 2 ] || fail "usage: etcd-certificates DIRECTORY HOST[,ADDRESS...] ..."
command -v openssl >/dev/null || fail 'openssl is missing (Debian: apt install openssl)'
directory=$1
shift
for machine; do
    host=${machine%%,*}
    case ",$machine," in
        *,,* | *,-* | *,.* | *[!A-Za-z0-9.,:-]*) fail "not a name or an address: $machine" ;;
    esac
    [ ! -e "$directory/$host" ] ||
        fail "$directory/$host is there: move it away if $host is to have new certificates"
done
mkdir -p "$directory"
work=$(mktemp -d "$directory/.making.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ ! -e "$directory/ca.pem" ]; then
    [ ! -e "$directory/ca-key.pem" ] || fail "$directory/ca-key.pem is there without ca.pem: move it away"
    authority
fi
[ -e "$directory/ca-key.pem" ] || fail "$directory/ca-key.pem is missing: the authority cannot sign without it"
for machine; do
    host=${machine%%,*}
    mkdir "$work/$host"
    certificate "$work/$host/member" serverAuth,clientAuth "$(names "$machine")"
    certificate "$work/$host/kdc" clientAuth "$(names "$machine")"
    cp "$directory/ca.pem" "$work/$host/ca.pem"
done
for machine; do
    host=${machine%%,*}
    mv -T "$work/$host" "$directory/$host"
    printf '%s/%s: copy it to %s; there member*.pem and ca.pem are for etcd, kdc*.pem and ca.pem for the KDC\n' \
        "$directory" "$host" "$host"
done
printf '%s/ca-key.pem: keep it where none of these machines can read it\n' "$directory"
