#!/bin/sh
exec redis-server --bind 0.0.0.0 --dir /data --appendonly yes --save '' --requirepass "${STORE_PASSWORD:?}" --protected-mode no
