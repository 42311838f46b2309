#!/usr/bin/env bash
# Try this commit on a fresh Debian 12 that has Python, git and make, and nothing else.
#
#   deploy/local/try_in_chroot.sh FOLDER [COMMAND…]      as root; default: make install
#
# FOLDER is made, and kept for another run (remove it when done). Needs debootstrap.
# The machine's package source, name service and extra certificates are taken over, because
# without them nothing could be downloaded; its home, caches and programs are not. The command
# runs in mount and process namespaces of its own, so nothing of it can outlive the script; it
# is not a machine of its own: kernel, network and ports are this machine's.
set -euo pipefail

folder=$(realpath -m "${1:?a folder for the new system}")
shift
[ $# -gt 0 ] || set -- make install
clone=$(cd "$(dirname "$0")/../.." && pwd)

if [ ! -e "$folder/srv/home" ]; then
    source=$(apt-get indextargets --format '$(SITE)' | grep -v security | sort -u | head -n 1)
    debootstrap --variant=minbase --include=python3,git,make,ca-certificates \
        bookworm "$folder" "$source" >"$folder.debootstrap.log"
    cp /etc/resolv.conf /etc/hosts "$folder/etc/"
    find /usr/local/share/ca-certificates -name '*.crt' \
        -exec cp {} "$folder/usr/local/share/ca-certificates/" ';'
    chroot "$folder" update-ca-certificates >/dev/null
    git clone -q "$clone" "$folder/srv/millrace"
    mkdir "$folder/srv/home"
fi
git -C "$folder/srv/millrace" fetch -q "$clone" HEAD
git -C "$folder/srv/millrace" checkout -q --detach FETCH_HEAD

kept=()
for name in SSL_CERT_FILE PIP_CERT NODE_EXTRA_CA_CERTS; do
    [ -z "${!name:-}" ] || kept+=("$name=${!name}")
done
export folder
exec unshare --mount --pid --fork --kill-child bash -euc '
    # Java asks which mount a folder lies on: the new root has to be one.
    mount --bind "$folder" "$folder"
    mount -t proc proc "$folder/proc"
    mount --rbind /dev "$folder/dev"
    mount -t tmpfs tmpfs "$folder/tmp"
    exec chroot "$folder" "$@"
' - env -i "${kept[@]}" HOME=/srv/home LANG=C.UTF-8 TERM=dumb \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    sh -c 'cd /srv/millrace && git config --global --add safe.directory /srv/millrace && exec "$@"' - "$@"
