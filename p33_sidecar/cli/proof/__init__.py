"""`p33 proof`: is a running installation what it should be? Eight points, each a fact that was looked at.

`command` (what is printed and kept) → `points` (the eight) → `canary`, `journal`, `changes` (what a point rests on).
`scenarios` plays the denial cases on a simulated exchange beside the installation, and touches nothing of it.

What may not happen here: an order, a point that is passed because it could not be looked at, a secret in what is kept.
"""
