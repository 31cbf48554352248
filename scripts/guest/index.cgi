#!/bin/sh
# GET /: who the guest is and how often it booted, as JSON.
read -r uptime _ </proc/uptime
# Strict readers of HTTP want the carriage returns, and httpd passes on what it gets.
printf 'Content-Type: application/json\r\n\r\n'
cat <<JSON
{"hostname":"$(hostname)","address":"$(cat /run/address)","bootId":"$(cat /proc/sys/kernel/random/boot_id)","uptimeSeconds":$uptime,"boots":$(cat /mnt/root/hostlet/boots),"dataBoots":$(cat /mnt/data/boots 2>/dev/null || echo null),"instanceId":"$(cat /mnt/root/hostlet/instance-id 2>/dev/null)"}
JSON
